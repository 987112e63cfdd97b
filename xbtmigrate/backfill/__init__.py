"""The backfill loop: project, encode, write, sweep; its pipeline, goal, order, cache and pace."""
