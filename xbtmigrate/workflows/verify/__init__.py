"""The procedure of `verify`."""
