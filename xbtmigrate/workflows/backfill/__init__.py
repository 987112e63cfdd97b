"""The procedure of `backfill`, and what steers a run."""
