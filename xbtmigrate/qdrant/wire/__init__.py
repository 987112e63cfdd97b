"""Requests, and points on their way between Qdrant, numpy and Arrow."""
