"""Qdrant: what the server has still to do because of earlier writes."""

from __future__ import annotations

from dataclasses import dataclass

from qdrant_client import models

from xbtmigrate.qdrant.wire.connection import Connection

_LOST_SHARE = 0.2
_MIN_LOST = 20_000
_QUEUED = 1_000


@dataclass(slots=True)
class Backlog:
    """The optimizer and the update queue of one collection.

    A vector that is written takes its point out of the index, for the old vector too, until the
    optimizer has built the index anew. Grey ("to be optimized, but not begun") is no reason to
    wait: the next write is what begins it.

    Attributes:
        connection: The open Qdrant.
        collection: Real name of the collection that is written.
    """

    connection: Connection
    collection: str
    _indexed: int | None = None

    def look(self) -> tuple[bool, str]:
        """Return whether the server is still busy with writes, and why to wait; "" for not."""
        client = self.connection.client
        info = self.connection.call(lambda: client.get_collection(self.collection))
        busy = info.status is models.CollectionStatus.YELLOW
        queue = info.update_queue.length if info.update_queue else 0
        indexed = info.indexed_vectors_count or 0
        self._indexed = max(indexed, self._indexed or 0)
        lost = self._indexed - indexed
        if queue > _QUEUED:
            return True, f"{queue} writes wait in the server's update queue"
        if busy and lost > max(_MIN_LOST, _LOST_SHARE * self._indexed):
            return True, f"the optimizer has {lost} vectors to put back into the index"
        return busy, ""
