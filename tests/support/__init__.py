"""Support for the tests: what they need started or fetched."""
