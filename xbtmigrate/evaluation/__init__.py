"""Retrieval metrics, comparisons with keep, backfilling curves, servings, the recommendation."""
