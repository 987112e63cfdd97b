"""Requests to Qdrant, and the conversion of points to and from numpy and Arrow."""
