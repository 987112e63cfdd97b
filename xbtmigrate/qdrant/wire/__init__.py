"""Requests and pages: how points travel between Qdrant, numpy and Arrow."""
