"""Qdrant: the points of a collection that gets a second vector, and what both layouts share."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa
from qdrant_client import models

from xbtmigrate.errors import CollectionError
from xbtmigrate.protocols import Written
from xbtmigrate.qdrant.connection import Connection
from xbtmigrate.qdrant.pages import Page
from xbtmigrate.qdrant.payload import (
    GROUP,
    PLAN_LENGTH,
    PROVENANCE,
    EmbeddedFields,
    remembers,
    shared_provenance,
)
from xbtmigrate.qdrant.scan import Reader
from xbtmigrate.qdrant.writing import Writer
from xbtmigrate.types import Kind, PointId, make_batch, vectors_of

ATTEMPTS = 5

ShardKeys: TypeAlias = dict[PointId, models.ShardKey | None]
"""Existing points and the shard keys they live under, None under automatic sharding."""


@dataclass(frozen=True, slots=True)
class Space:
    """Name and length of a vector; the name is "" for an unnamed one."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class GallerySettings:
    """What both galleries need to know.

    Attributes:
        fields: Where the embedded content is in a payload.
        plan: Digest of the plan that the writes belong to.
        old: The stored vector.
        new: The vector that is filled.
        custom_sharding: Whether writes have to name a shard key.
        page: Points in a batch of `read`, at most.
        write_limit: Points in one write, at most.
    """

    fields: EmbeddedFields
    plan: str
    old: Space
    new: Space
    custom_sharding: bool = False
    page: int = 512
    write_limit: int = 512


class InPlaceGallery:
    """Points with the old and the new vector side by side."""

    def __init__(self, connection: Connection, collection: str, settings: GallerySettings) -> None:
        self._connection = connection
        self._settings = settings
        self._reader = Reader(connection, collection, settings.page)
        self._writer = Writer(connection, collection)

    def count(self, kind: Kind | None = None) -> int:
        """Count exactly: all points, or those whose new vector this plan made in this way."""
        if kind is None:
            return self._reader.count()
        return self._reader.count(made_by(self._settings, kind))

    def read(
        self,
        columns: Collection[str],
        *,
        ids: Sequence[PointId] | None = None,
        after: PointId | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Yield batches of points in id order, or of `ids` in the order given."""
        source = "source" in columns
        payload = [*self._settings.fields.keys(), f'"{PROVENANCE}"'] if source else False
        vectors = self._vectors(columns)
        pages = self._reader.select(ids, after=after, payload=payload, vectors=vectors)
        yield from (self._batch(page, columns) for page in pages)

    def write(self, batch: pa.RecordBatch, kind: Kind) -> Written:
        """Store `new` and its provenance, and wait until every shard has applied both."""
        written: list[PointId] = []
        for start in range(0, batch.num_rows, self._settings.write_limit):
            part = batch.slice(start, self._settings.write_limit)
            written += self._write_part(part, kind)
        return result_of(batch, written)

    def prune(self) -> int:
        """Remove nothing: a point takes its new vector along when it is deleted."""
        return 0

    def _vectors(self, columns: Collection[str]) -> bool | list[str]:
        names = [getattr(self._settings, each).name for each in ("old", "new") if each in columns]
        if "source" in columns and self._connection.embedded:
            # In memory a vector costs less than a condition, which looks at every point.
            names.append(self._settings.new.name)
        return list(dict.fromkeys(names)) or False

    def _batch(self, page: Page, columns: Collection[str]) -> pa.RecordBatch:
        arrays: dict[str, pa.Array] = {}
        if "source" in columns:
            arrays = page.source_columns(self._settings.fields)
            with_new = "new" in columns or self._connection.embedded
            hashes = arrays["content_hash"].to_pylist()
            arrays["kind"] = self._kinds(page, hashes, with_new=with_new)
        for name in ("old", "new"):
            if name in columns:
                space: Space = getattr(self._settings, name)
                arrays[name] = page.dense(space.name, space.size)
        return make_batch(page.ids, **arrays)

    def _kinds(self, page: Page, hashes: Sequence[str], *, with_new: bool) -> pa.Array:
        plan = self._settings.plan
        made = {
            point_id: mark["kind"]
            for point_id, payload, present in zip(page.ids, page.payloads, hashes, strict=True)
            if (mark := payload.get(PROVENANCE)) and remembers(mark, plan, point_id, present)
        }
        # An application that reads a point and upserts it keeps our key but drops the vector.
        name = self._settings.new.name
        if with_new:
            having = {
                point_id
                for point_id, vectors in zip(page.ids, page.vectors, strict=True)
                if name in vectors
            }
        else:
            having = self._reader.having(list(made), name)
        return pa.array(
            [made.get(each) if each in having else None for each in page.ids], pa.string()
        )

    def _write_part(self, part: pa.RecordBatch, kind: Kind) -> list[PointId]:
        """Write until every point of the part is either stored or gone."""
        keys: ShardKeys = dict.fromkeys(part.column("id").to_pylist())
        if self._settings.custom_sharding:
            keys = self._present(list(keys))
        unexplained = 0
        while True:
            try:
                self._send(part, kind, keys)
            except CollectionError:
                # One missing point fails the request after the others were stored.
                before, keys = len(keys), self._present(list(keys))
                unexplained = 0 if len(keys) < before else unexplained + 1
                if unexplained == ATTEMPTS:
                    raise
            else:
                return list(keys)

    def _present(self, ids: Sequence[PointId]) -> ShardKeys:
        pages = (self._reader.retrieve(part) for part in self._reader.pages_of(ids))
        return {
            point_id: key
            for page in pages
            for point_id, key in zip(page.ids, page.shard_keys, strict=True)
        }

    def _send(self, part: pa.RecordBatch, kind: Kind, keys: ShardKeys) -> None:
        ids: list[PointId] = part.column("id").to_pylist()
        hashes: list[str] = part.column("content_hash").to_pylist()
        vectors = vectors_of(part, "new")
        name, plan = self._settings.new.name, self._settings.plan
        groups = rows_by_key(ids, keys)
        for key, rows in groups.items():
            members = [ids[row] for row in rows]
            chosen = vectors if len(rows) == len(ids) else vectors[rows]
            self._writer.update_vectors(members, name, chosen, key)
            marks = []
            for start in range(0, len(rows), GROUP):
                made_from = {ids[row]: hashes[row] for row in rows[start : start + GROUP]}
                mark = {PROVENANCE: shared_provenance(plan, kind, made_from)}
                marks.append((list(made_from), mark))
            # A mark that got lost costs one more encoding: its point does not count as done.
            self._writer.enqueue_payloads(marks, key)
        if groups:
            self._writer.settle(groups)


def made_by(settings: GallerySettings, kind: Kind) -> models.Filter:
    """Select the points whose new vector this plan made in this way."""
    values = {"plan": settings.plan[:PLAN_LENGTH], "kind": str(kind)}
    marks: list[models.Condition] = [
        models.FieldCondition(key=f"{PROVENANCE}.{key}", match=models.MatchValue(value=value))
        for key, value in values.items()
    ]
    return models.Filter(must=[*marks, models.HasVectorCondition(has_vector=settings.new.name)])


def rows_by_key(ids: Sequence[PointId], keys: ShardKeys) -> dict[models.ShardKey | None, list[int]]:
    """Group the rows of the points in `keys` by their shard key."""
    rows: dict[models.ShardKey | None, list[int]] = {}
    for row, point_id in enumerate(ids):
        if point_id in keys:
            rows.setdefault(keys[point_id], []).append(row)
    return rows


def result_of(batch: pa.RecordBatch, written: Collection[PointId]) -> Written:
    """Say which points of a batch were stored and which had gone."""
    stored = set(written)
    ids: list[PointId] = batch.column("id").to_pylist()
    return Written(
        [each for each in ids if each in stored], [each for each in ids if each not in stored]
    )
