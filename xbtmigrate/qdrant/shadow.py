"""Qdrant: a second collection with the new vectors, kept like the source point by point."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pyarrow as pa
from qdrant_client import models

from xbtmigrate.protocols import Written
from xbtmigrate.qdrant.connection import Connection
from xbtmigrate.qdrant.gallery import (
    MEDIUM,
    GallerySettings,
    ShardKeys,
    made_by,
    result_of,
    rows_by_key,
)
from xbtmigrate.qdrant.payload import PLAN_LENGTH, PROVENANCE, provenance, whole_hash
from xbtmigrate.qdrant.records import (
    Record,
    point_id_of,
    source_columns,
    stored_id,
    vectors_column,
)
from xbtmigrate.qdrant.scan import Reader
from xbtmigrate.types import Kind, PointId, make_batch, vectors_of


class ShadowGallery:
    """The source's points; their new vectors live on copies in the shadow.

    Args:
        connection: The open Qdrant.
        source: Real name of the source collection, which is only read.
        shadow: Name of the shadow.
        settings: What both layouts need to know.
        copied: Names of the source's other vectors, which are copied along.
    """

    def __init__(
        self,
        connection: Connection,
        source: str,
        shadow: str,
        settings: GallerySettings,
        copied: Sequence[str],
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._copied = list(copied)
        self._source = Reader(connection, source, settings.page)
        self._shadow = Reader(connection, shadow, settings.page)

    def count(self, kind: Kind | None = None) -> int:
        """Count exactly: the source's points, or the copies that this plan made in this way."""
        if kind is None:
            return self._source.count()
        return self._shadow.count(made_by(self._settings, kind))

    def read(
        self,
        columns: Collection[str],
        *,
        ids: Sequence[PointId] | None = None,
        after: PointId | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Yield batches of the source's points in id order, or of `ids` in the order given."""
        payload = "source" in columns
        vectors = [self._settings.old.name] if "old" in columns else False
        if ids is None:
            pages = self._source.scroll(payload=payload, vectors=vectors, after=after)
        else:
            pages = (
                self._source.retrieve(page, payload=payload, vectors=vectors)
                for page in self._source.pages_of(ids)
            )
        for records in pages:
            if records:
                yield self._batch(records, columns)

    def write(self, batch: pa.RecordBatch, kind: Kind) -> Written:
        """Copy the present source points into the shadow with the new vector, and wait.

        A point deleted from the source between the copy's read and write stays behind in the
        shadow until `prune`.
        """
        written: list[PointId] = []
        for start in range(0, batch.num_rows, self._settings.write_limit):
            part = batch.slice(start, self._settings.write_limit)
            written += self._write_part(part, kind)
        return result_of(batch, written)

    def prune(self) -> int:
        """Remove the copies whose source points are gone; returns how many."""
        removed = 0
        for copies in self._shadow.scroll(payload=False, vectors=False):
            keys = {point_id_of(each): each.shard_key for each in copies}
            alive = self._source.retrieve(list(keys))
            for each in alive:
                del keys[point_id_of(each)]
            ids = list(keys)
            for key, rows in rows_by_key(ids, keys).items():
                self._delete([ids[row] for row in rows], key)
            removed += len(ids)
        return removed

    def _batch(self, records: Sequence[Record], columns: Collection[str]) -> pa.RecordBatch:
        ids = [point_id_of(record) for record in records]
        new = self._settings.new
        copies: list[Record | None] = []
        if "source" in columns or "new" in columns:
            found = self._shadow.retrieve(
                ids,
                payload=[f'"{PROVENANCE}"'] if "source" in columns else False,
                vectors=[new.name] if "new" in columns else False,
            )
            by_id = {point_id_of(each): each for each in found}
            copies = [by_id.get(each) for each in ids]
        arrays: dict[str, pa.Array] = {}
        if "source" in columns:
            arrays = source_columns(records, self._settings.fields)
            arrays["kind"] = self._kinds(records, copies, arrays["content_hash"].to_pylist())
        if "old" in columns:
            old = self._settings.old
            arrays["old"] = vectors_column(records, old.name, old.size)
        if "new" in columns:
            arrays["new"] = vectors_column(copies, new.name, new.size)
        return make_batch(ids, **arrays)

    def _kinds(
        self, records: Sequence[Record], copies: Sequence[Record | None], hashes: Sequence[str]
    ) -> pa.Array:
        plan = self._settings.plan[:PLAN_LENGTH]
        kinds: list[str | None] = []
        for record, copy, present in zip(records, copies, hashes, strict=True):
            mark: dict[str, Any] = (copy.payload or {}).get(PROVENANCE, {}) if copy else {}
            expected = (plan, present, whole_hash(record.payload or {}))
            fits = (mark.get("plan"), mark.get("hash"), mark.get("payload")) == expected
            kinds.append(mark["kind"] if fits else None)
        return pa.array(kinds, pa.string())

    def _write_part(self, part: pa.RecordBatch, kind: Kind) -> list[PointId]:
        ids: list[PointId] = part.column("id").to_pylist()
        hashes: list[str] = part.column("content_hash").to_pylist()
        vectors = vectors_of(part, "new")
        found = self._source.retrieve(ids, payload=True, vectors=self._copied or False)
        sources = {point_id_of(record): record for record in found}
        keys: ShardKeys = {point_id: record.shard_key for point_id, record in sources.items()}
        for key, rows in rows_by_key(ids, keys).items():
            points = [
                self._copy(
                    sources[ids[row]],
                    vectors[row].tolist(),
                    provenance(self._settings.plan, kind, hashes[row]),
                )
                for row in rows
            ]
            self._upsert(points, key)
        return list(keys)

    def _copy(self, source: Record, new: list[float], mark: dict[str, str]) -> models.PointStruct:
        payload = dict(source.payload or {})
        payload[PROVENANCE] = {**mark, "payload": whole_hash(payload)}
        others = source.vector if isinstance(source.vector, dict) else {}
        kept = {name: others[name] for name in self._copied if name in others}
        return models.PointStruct(
            id=source.id, vector={**kept, self._settings.new.name: new}, payload=payload
        )

    def _upsert(self, points: list[models.PointStruct], key: models.ShardKey | None) -> None:
        self._connection.write(
            lambda: self._connection.client.upsert(
                self._shadow.collection,
                points,
                wait=True,
                ordering=MEDIUM,
                shard_key_selector=key,
            )
        )

    def _delete(self, ids: Sequence[PointId], key: models.ShardKey | None) -> None:
        selector = models.PointIdsList(points=[stored_id(each) for each in ids])
        self._connection.write(
            lambda: self._connection.client.delete(
                self._shadow.collection,
                selector,
                wait=True,
                ordering=MEDIUM,
                shard_key_selector=key,
            )
        )
