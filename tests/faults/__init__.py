"""Seeded schedules of writes, kills and cut connections against real backfills on a real server.

`python -m tests.faults --help` runs and replays them; docs/safety.md says what they cover.
"""
