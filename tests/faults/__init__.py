"""Seeded schedules of writes, kills and broken connections against a real backfill on a real server.

`python -m tests.faults --help` runs and replays them; docs/safety.md says what they cover.
"""
