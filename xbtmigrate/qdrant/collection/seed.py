"""Create a small embedded collection, for the demo and the examples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qdrant_client import QdrantClient, models

from xbtmigrate.qdrant.wire.connection import MEDIUM, use_write_ahead_log
from xbtmigrate.types import Vectors

_BATCH = 1000


def create_embedded(
    folder: Path,
    collection: str,
    vector: str,
    points: Mapping[int, Mapping[str, Any]],
    vectors: Vectors,
) -> None:
    """Create an embedded database with one cosine collection.

    Args:
        folder: New folder of the database.
        collection: Name of the collection.
        vector: Name of its vector.
        points: Id -> payload, n points.
        vectors: Their vectors, float32 (n, d).
    """
    client = QdrantClient(path=str(folder))
    try:
        params = models.VectorParams(size=vectors.shape[1], distance=models.Distance.COSINE)
        client.create_collection(collection, vectors_config={vector: params})
        # Without it, every point would wait for the disk.
        use_write_ahead_log(client)
        ids = list(points)
        for start in range(0, len(ids), _BATCH):
            part = slice(start, start + _BATCH)
            batch = models.Batch(
                ids=[*ids[part]],
                vectors={vector: vectors[part].tolist()},
                payloads=[dict(points[point]) for point in ids[part]],
            )
            client.upsert(collection, batch, wait=True, ordering=MEDIUM)
    finally:
        client.close()
