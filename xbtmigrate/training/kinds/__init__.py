"""The kinds of projector, one file a family."""
