"""The procedure of `evaluate` and its report."""
