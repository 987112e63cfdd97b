"""Qdrant: is a collection in a state in which it can take over? Reads only."""

from __future__ import annotations

from collections.abc import Iterator

from qdrant_client import models

from xbtmigrate.qdrant.wire.connection import Connection


def troubles(connection: Connection, collection: str) -> Iterator[str]:
    """Yield what keeps a collection from being green and settled, in words."""
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
