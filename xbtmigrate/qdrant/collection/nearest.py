"""Adapter, Qdrant: the points that old-model queries find in the collection as it is."""

from __future__ import annotations

from xbtmigrate.qdrant.collection.facts import CollectionFacts
from xbtmigrate.qdrant.collection.index_recall import search
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.types import PointId, Vectors

BATCH = 100


def nearest(
    connection: Connection, facts: CollectionFacts, vectors: Vectors, count: int
) -> list[list[PointId]]:
    """Search the old vectors.

    Args:
        connection: The open Qdrant.
        facts: The collection.
        vectors: Queries in the old space, (n, d_old).
        count: Points wanted for each.

    Returns:
        One list of ids for each query, best first.
    """
    found: list[list[PointId]] = []
    for start in range(0, len(vectors), BATCH):
        part = vectors[start : start + BATCH]
        found += search(connection, facts.collection, facts.vector, part, depth=count)
    return found
