"""The procedures of `init`, `plan` and `bench`."""
