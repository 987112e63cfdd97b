"""Workflows: demo. The whole path on the small real collection that comes with the package."""
