"""Store a correction for hubness on each point, in the tool's own payload key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
from qdrant_client import models

from xbtmigrate.qdrant.collection.facts import page_within
from xbtmigrate.qdrant.gallery.create import create_index
from xbtmigrate.qdrant.gallery.present_points import write_to_present
from xbtmigrate.qdrant.gallery.provenance import PLAN_LENGTH, PROVENANCE
from xbtmigrate.qdrant.gallery.remove import drop_indexes
from xbtmigrate.qdrant.wire.connection import MEDIUM, Connection
from xbtmigrate.qdrant.wire.points import StoredId, stored_id
from xbtmigrate.qdrant.wire.reader import Reader
from xbtmigrate.scoring.hubness import HUB
from xbtmigrate.types import Kind, PointId

PAGE = 512


def index_numbers(connection: Connection, collection: str, key: str) -> None:
    """Index a number, so that a formula need not read the payload of each point it scores.

    Args:
        connection: The open Qdrant.
        collection: Real name of the collection that holds the marks.
        key: Name of the number; indexes of others are deleted.
    """
    field = f"{PROVENANCE}.{key}"
    # One index at a time: `plan` counts one, and strict mode may limit their number.
    drop_indexes(connection, collection, below=f"{PROVENANCE}.{HUB}", but=field)
    # Nothing filters on it, so the HNSW graphs need no extra links for it.
    params = models.FloatIndexParams(type=models.FloatIndexType.FLOAT, enable_hnsw=False)
    create_index(connection, collection, field, params)


def scroll_points_without(
    connection: Connection,
    collection: str,
    plan: str,
    key: str,
    shards: Sequence[models.ShardKey | None],
) -> Iterator[tuple[models.ShardKey | None, list[PointId]]]:
    """Yield pages of the points that this plan has marked and that lack a number, by shard key.

    Args:
        connection: The open Qdrant.
        collection: Real name of the collection that holds the marks.
        plan: Digest of the plan.
        key: Name of the number.
        shards: The shard keys; None alone under automatic sharding.
    """
    page = page_within(connection, collection, PAGE)
    lacking = models.Filter(
        must=[
            _marked("plan", plan[:PLAN_LENGTH]),
            models.IsEmptyCondition(is_empty=models.PayloadField(key=f"{PROVENANCE}.{key}")),
        ]
    )
    for shard in shards:
        after: models.ExtendedPointId | None = None
        while True:
            records, after = connection.call(
                partial(
                    connection.client.scroll,
                    collection,
                    lacking,
                    limit=page,
                    offset=after,
                    with_payload=False,
                    shard_key_selector=shard,
                )
            )
            if records:
                yield shard, [str(record.id) for record in records]
            # Only the server's null offset ends a scroll, not a short page.
            if after is None:
                break


def store_numbers(
    connection: Connection,
    collection: str,
    plan: str,
    key: str,
    numbers: tuple[Sequence[PointId], Sequence[Kind], npt.NDArray[np.float32]],
    *,
    shard: models.ShardKey | None,
) -> None:
    """Store a number on each point, but not where a point was replaced or deleted meanwhile.

    Args:
        connection: The open Qdrant.
        collection: Real name of the collection.
        plan: Digest of the plan.
        key: Name of the number.
        numbers: Ids, kinds and numbers of n points.
        shard: Their shard key, None under automatic sharding.

    Raises:
        CollectionError: The server refuses the numbers of points that are there.
    """
    ids, kinds, values = numbers
    reader = Reader(connection, collection, len(ids), shard)
    due = {point: float(value) for point, value in zip(ids, values, strict=True)}

    def send(points: Sequence[PointId]) -> None:
        _send(connection, collection, key, {each: due[each] for each in points}, shard)

    present = write_to_present(reader, ids, send)
    expected = {
        point: (plan[:PLAN_LENGTH], kind.value) for point, kind in zip(ids, kinds, strict=True)
    }
    # A point that was replaced has no mark, or another one: its number is that of the former.
    found = reader.retrieve(present, payload=[f'"{PROVENANCE}"'])
    marks = (payload.get(PROVENANCE, {}) for payload in found.payloads)
    replaced = [
        stored_id(point)
        for point, mark in zip(found.ids, marks, strict=True)
        if (mark.get("plan"), mark.get("kind")) != expected[point]
    ]
    if replaced:
        _withdraw(connection, collection, key, replaced, shard)


def _send(
    connection: Connection,
    collection: str,
    key: str,
    numbers: Mapping[PointId, float],
    shard: models.ShardKey | None,
) -> None:
    # Numbers differ, so points cannot share an operation as they share a mark.
    operations: list[models.UpdateOperation] = [
        models.SetPayloadOperation(
            set_payload=models.SetPayload(
                payload={key: number}, key=PROVENANCE, points=[stored_id(point)], shard_key=shard
            )
        )
        for point, number in numbers.items()
    ]
    client = connection.client
    connection.write(
        lambda: client.batch_update_points(collection, operations, wait=True, ordering=MEDIUM)
    )


def _withdraw(
    connection: Connection,
    collection: str,
    key: str,
    ids: Sequence[StoredId],
    shard: models.ShardKey | None,
) -> None:
    """Remove a number from points; those that are gone meanwhile are skipped."""
    these = models.Filter(must=[models.HasIdCondition(has_id=[*ids])])
    client, name = connection.client, f"{PROVENANCE}.{key}"
    connection.write(
        lambda: client.delete_payload(
            collection, [name], these, wait=True, ordering=MEDIUM, shard_key_selector=shard
        )
    )


def _marked(name: str, value: str) -> models.FieldCondition:
    return models.FieldCondition(key=f"{PROVENANCE}.{name}", match=models.MatchValue(value=value))
