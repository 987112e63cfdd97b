"""Read what a server still has to do after writes, and whether a collection is ready to serve.

Reads only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qdrant_client import models

from xbtmigrate.qdrant.wire.connection import Connection

# A run waits when a fifth of the index, and at least 20,000 vectors, has dropped out, or 1,000
# writes are queued: below that, the server catches up during the run (docs/load.md).
_LOST_SHARE = 0.2
_MIN_LOST = 20_000
_QUEUED = 1_000


@dataclass(slots=True)
class OptimizerQueue:
    """The optimizer and the update queue of one collection.

    A written vector takes its point out of the index, for the old vector too, until the optimizer
    has rebuilt the index. Grey ("to be optimized, but not begun") is no reason to wait, because
    only the next write starts the optimizer.

    Attributes:
        connection: The open Qdrant.
        collection: Real name of the collection that is written.
    """

    connection: Connection
    collection: str
    _indexed: int | None = None

    def look(self) -> tuple[bool, str]:
        """Return whether the server is busy with writes, and the reason to wait for it, or ""."""
        client = self.connection.client
        info = self.connection.call(lambda: client.get_collection(self.collection))
        busy = info.status is models.CollectionStatus.YELLOW
        # Servers before 1.17 do not report their update queue.
        queue = info.update_queue.length if info.update_queue else 0
        indexed = info.indexed_vectors_count or 0
        # The most that was ever indexed is the best estimate of a complete index.
        self._indexed = max(indexed, self._indexed or 0)
        lost = self._indexed - indexed
        if queue > _QUEUED:
            return True, f"{queue} writes wait in the server's update queue"
        if busy and lost > max(_MIN_LOST, _LOST_SHARE * self._indexed):
            return True, f"the optimizer has {lost} vectors to put back into the index"
        return busy, ""


def find_health_problems(connection: Connection, collection: str) -> Iterator[str]:
    """Yield each reason why a collection is not green and idle."""
    if connection.embedded:
        return
    info = connection.call(lambda: connection.client.get_collection(collection))
    if info.status is not models.CollectionStatus.GREEN:
        yield f"'{collection}' is {info.status.value}, not green: its optimizers are at work"
    if info.optimizer_status != models.OptimizersStatusOneOf.OK:
        yield f"the optimizers of '{collection}' report {info.optimizer_status}"
    cluster = connection.call(lambda: connection.client.collection_cluster_info(collection))
    states = [(each.shard_id, each.state) for each in cluster.local_shards]
    states += [(each.shard_id, each.state) for each in cluster.remote_shards]
    for shard, state in states:
        if state is not models.ReplicaState.ACTIVE:
            yield f"a replica of shard {shard} of '{collection}' is {state.value}"
    if cluster.shard_transfers:
        yield f"{len(cluster.shard_transfers)} shard(s) of '{collection}' are being moved"
