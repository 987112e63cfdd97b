"""The procedures of `cutover`, `rollback`, `finalize` and `abort`."""
