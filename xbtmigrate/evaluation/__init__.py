"""Room `evaluation`: retrieval metrics, compatibility, backfilling curves, the recommendation."""
