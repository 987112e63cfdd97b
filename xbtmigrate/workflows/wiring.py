"""Workflows: the one place that chooses concrete parts for a migration."""
