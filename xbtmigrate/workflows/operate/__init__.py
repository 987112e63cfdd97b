"""The procedures of `status`, `doctor` and `demo`."""
