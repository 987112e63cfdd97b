"""Qdrant: the store of the vectors, the layouts of a migration and its journal."""
