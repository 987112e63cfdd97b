"""Qdrant: what the embedded mode needs to write at a bearable speed."""

from __future__ import annotations

from typing import Any

from qdrant_client import QdrantClient


def use_write_ahead_log(client: QdrantClient) -> None:
    """Let SQLite, which the embedded mode keeps its points in, write ahead of its table.

    The client commits every point by itself, and each commit waits for the disk. With a
    write-ahead log it does not: a killed process loses nothing, a power failure at most the last
    points, and the database stays whole either way. Asking again changes nothing.
    """
    local: Any = client._client
    for collection in local.collections.values():
        if collection.storage is not None:
            database = collection.storage.storage
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
