"""Qdrant: writing vectors, marks and whole points by the fastest route to the same server."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from qdrant_client import models

from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.point_page import NewPoint, stored_id
from xbtmigrate.qdrant.wire.writer import (
    MEDIUM,
    ClientRoute,
    PackedRoute,
    Payloads,
    RestRoute,
    Route,
    reaches_same_server,
)
from xbtmigrate.types import PointId, Vectors


class Writer:
    """Writes into one collection; what it returns from is applied, unless said otherwise.

    Args:
        connection: The open Qdrant.
        collection: Real name of the collection.
    """

    def __init__(self, connection: Connection, collection: str) -> None:
        self._connection = connection
        self._collection = collection
        rest = connection.rest
        self._unpacked: RestRoute | ClientRoute = (
            ClientRoute(connection, collection) if rest is None else RestRoute(rest, collection)
        )

    def update_vectors(
        self, ids: Sequence[PointId], name: str, rows: Vectors, key: models.ShardKey | None
    ) -> None:
        """Set one named vector of points that exist.

        Args:
            ids: n point ids.
            name: Name of the vector.
            rows: Its values, float32 (n, d).
            key: Shard key of the points, None under automatic sharding.

        Raises:
            CollectionError: A point is missing; others may have been written.
        """
        route = self._fastest
        self._connection.write(lambda: route.update_vectors(ids, name, rows, key))

    def upsert(self, points: Sequence[NewPoint], key: models.ShardKey | None) -> None:
        """Store whole points in place of what may be there.

        Args:
            points: The points.
            key: Their shard key, None under automatic sharding.
        """
        route = self._fastest
        try:
            self._connection.write(lambda: route.upsert(points, key))
        except OverflowError:
            self._connection.write(lambda: self._unpacked.upsert(points, key))

    def enqueue_payloads(self, payloads: Payloads, key: models.ShardKey | None) -> None:
        """Merge keys into the payloads of points without waiting for it to be applied.

        To wait for each operation would take 7 times as long. A shard applies in order, so what is
        written to the same points afterwards is applied when these are.

        Args:
            payloads: Ids of points, and what is merged into the payload of each of them.
            key: Shard key of the points, None under automatic sharding.
        """
        self._connection.call(lambda: self._unpacked.enqueue_payloads(payloads, key))

    def merge_payloads(self, payloads: Payloads, key: models.ShardKey | None) -> None:
        """Merge keys into the payloads of points.

        Args:
            payloads: Ids of points, and what is merged into the payload of each of them.
            key: Shard key of the points, None under automatic sharding.

        Raises:
            CollectionError: A point is missing; others may have been written.
        """
        operations: list[models.UpdateOperation] = [
            models.SetPayloadOperation(
                set_payload=models.SetPayload(
                    payload=dict(each), points=[stored_id(point) for point in ids], shard_key=key
                )
            )
            for ids, each in payloads
        ]
        client = self._connection.client
        self._connection.write(
            lambda: client.batch_update_points(
                self._collection, operations, wait=True, ordering=MEDIUM
            )
        )

    def delete(self, ids: Sequence[PointId], key: models.ShardKey | None) -> None:
        """Delete points that live under one shard key."""
        selector = models.PointIdsList(points=[stored_id(each) for each in ids])
        client = self._connection.client
        self._connection.write(
            lambda: client.delete(
                self._collection, selector, wait=True, ordering=MEDIUM, shard_key_selector=key
            )
        )

    @cached_property
    def _fastest(self) -> Route:
        """The packed route, if gRPC certainly leads to the same server."""
        rpc = self._connection.rpc
        if rpc is None:
            return self._unpacked
        rpc.trusted = rpc.trusted or reaches_same_server(self._connection, rpc)
        return PackedRoute(rpc, self._collection) if rpc.trusted else self._unpacked
