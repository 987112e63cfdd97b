"""The record of a migration kept in Qdrant: lease, run control, published artefacts."""
