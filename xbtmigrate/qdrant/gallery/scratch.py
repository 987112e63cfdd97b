"""Create a temporary collection in which `bench` measures writes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
from qdrant_client import models

from xbtmigrate.protocols import Gallery
from xbtmigrate.qdrant.collection.facts import CollectionFacts, inspect
from xbtmigrate.qdrant.collection.health import find_health_problems
from xbtmigrate.qdrant.gallery.create import create_collection, prepare
from xbtmigrate.qdrant.gallery.layout import NewSpace, choose_layout, shadow_name
from xbtmigrate.qdrant.gallery.open_gallery import open_gallery
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.own_collection import forget_shadow
from xbtmigrate.qdrant.wire.points import EmbeddedFields, NewPoint
from xbtmigrate.qdrant.wire.writer import Writer
from xbtmigrate.types import Layout, Modality, vectors_of

BENCH = "_xbtmigrate_bench_"
SETTLE_SECONDS = 60.0
_OLD, _NEW = "old", "new"


@contextmanager
def scratch_gallery(
    connection: Connection,
    facts: CollectionFacts,
    layout: Layout,
    space: NewSpace,
    batches: Sequence[pa.RecordBatch],
    *,
    stored: Modality,
) -> Iterator[Gallery]:
    """Copy points into a new collection and open it for a migration; delete it afterwards.

    Args:
        connection: The open Qdrant.
        facts: The collection that the points are from.
        layout: Where the new vectors go.
        space: The new vectors.
        batches: Points with the columns id, text, image and old.
        stored: What the vectors embed.
    """
    # A random name, because two runs may overlap; `doctor` finds leftovers by the prefix.
    name = f"{BENCH}{uuid.uuid4().hex[:12]}"
    new = NewSpace(_NEW, space.size, space.distance)
    try:
        _create(connection, name, facts, layout, new)
        writer = Writer(connection, name)
        for batch in batches:
            writer.upsert(_points(batch), None)
        _settle(connection, name)
        copy = inspect(connection, name, _OLD)
        choice = choose_layout(copy, connection, layout, new)
        prepare(connection, copy, choice)
        fields = EmbeddedFields("text", "image", stored)
        # A random plan digest, so that the marks of the copies match no real plan.
        yield open_gallery(connection, copy, choice, fields, uuid.uuid4().hex)
    finally:
        _delete(connection, name)


def _settle(connection: Connection, name: str) -> None:
    """Wait until the optimizers are idle, as they are on the user's collection before a run."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while next(find_health_problems(connection, name), None) and time.monotonic() < deadline:
        time.sleep(0.2)


def _create(
    connection: Connection, name: str, facts: CollectionFacts, layout: Layout, new: NewSpace
) -> None:
    sizes = {_OLD: (facts.size, facts.distance)}
    # Servers before 1.18 cannot add a name later.
    if layout is Layout.IN_PLACE:
        sizes[_NEW] = (new.size, new.distance)
    vectors = {
        each: models.VectorParams(size=size, distance=models.Distance(str(distance)))
        for each, (size, distance) in sizes.items()
    }
    hnsw = models.HnswConfigDiff(m=facts.hnsw_m, ef_construct=facts.hnsw_ef_construct)
    client = connection.client
    source = connection.call(lambda: client.get_collection(facts.collection)).config
    # The user's threshold, so that the copy is indexed exactly when the collection would be.
    optimizers = models.OptimizersConfigDiff(
        indexing_threshold=source.optimizer_config.indexing_threshold
    )
    create_collection(
        connection,
        name,
        vectors_config=vectors,
        hnsw_config=hnsw,
        optimizers_config=optimizers,
        shard_number=facts.shard_number,
    )


def _points(batch: pa.RecordBatch) -> list[NewPoint]:
    contents = (batch[each].to_pylist() for each in ("id", "text", "image"))
    return [
        NewPoint(point, {"text": text, "image": image}, {_OLD: row})
        for point, text, image, row in zip(*contents, vectors_of(batch, "old"), strict=True)
    ]


def _delete(connection: Connection, name: str) -> None:
    """Delete the collection, its shadow, and the record of the shadow."""
    client, shadow = connection.client, shadow_name(name)
    for each in (name, shadow):
        if connection.call(lambda each=each: client.collection_exists(each)):  # type: ignore[misc]
            connection.call(lambda each=each: client.delete_collection(each))  # type: ignore[misc]
    # The record last: after a crash, `doctor` still finds the collection.
    forget_shadow(connection, shadow)
