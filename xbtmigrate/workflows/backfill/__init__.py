"""The procedure of `backfill`, and the commands that control a run."""
