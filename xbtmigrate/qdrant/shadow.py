"""Qdrant: a second collection with the new vectors, kept like the source point by point."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from xbtmigrate.protocols import Written
from xbtmigrate.qdrant.connection import Connection
from xbtmigrate.qdrant.gallery import (
    GallerySettings,
    ShardKeys,
    made_by,
    result_of,
    rows_by_key,
)
from xbtmigrate.qdrant.pages import NewPoint, Page, Vector
from xbtmigrate.qdrant.payload import PLAN_LENGTH, PROVENANCE, provenance, whole_hash
from xbtmigrate.qdrant.scan import Reader
from xbtmigrate.qdrant.writing import Writer
from xbtmigrate.types import Kind, PointId, Vectors, make_batch, vectors_of


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
        self._settings = settings
        self._copied = list(copied)
        self._source = Reader(connection, source, settings.page)
        self._shadow = Reader(connection, shadow, settings.page)
        self._writer = Writer(connection, shadow)

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
        pages = self._source.select(ids, after=after, payload=payload, vectors=vectors)
        yield from (self._batch(page, columns) for page in pages)

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
            keys = dict(zip(copies.ids, copies.shard_keys, strict=True))
            for each in self._source.retrieve(copies.ids).ids:
                del keys[each]
            ids = list(keys)
            for key, rows in rows_by_key(ids, keys).items():
                self._writer.delete([ids[row] for row in rows], key)
            removed += len(ids)
        return removed

    def _batch(self, page: Page, columns: Collection[str]) -> pa.RecordBatch:
        old, new = self._settings.old, self._settings.new
        arrays: dict[str, pa.Array] = {}
        copies = self._copies(page, columns)
        if "source" in columns:
            arrays = page.source_columns(self._settings.fields)
            arrays["kind"] = self._kinds(page, copies, arrays["content_hash"].to_pylist())
        if "old" in columns:
            arrays["old"] = page.dense(old.name, old.size)
        if "new" in columns:
            arrays["new"] = copies.dense(new.name, new.size)
        return make_batch(page.ids, **arrays)

    def _copies(self, page: Page, columns: Collection[str]) -> Page:
        """Return the copies of a page's points, row by row; empty rows where there is none."""
        if not {"source", "new"} & set(columns):
            return page
        found = self._shadow.retrieve(
            page.ids,
            payload=[f'"{PROVENANCE}"'] if "source" in columns else False,
            vectors=[self._settings.new.name] if "new" in columns else False,
        )
        row_of = {point_id: row for row, point_id in enumerate(found.ids)}
        rows = [row_of.get(each) for each in page.ids]
        return Page(
            page.ids,
            [{} if row is None else found.payloads[row] for row in rows],
            page.shard_keys,
            [{} if row is None else found.vectors[row] for row in rows],
        )

    def _kinds(self, page: Page, copies: Page, hashes: Sequence[str]) -> pa.Array:
        plan = self._settings.plan[:PLAN_LENGTH]
        kinds: list[str | None] = []
        for source, copy, present in zip(page.payloads, copies.payloads, hashes, strict=True):
            mark: dict[str, Any] = copy.get(PROVENANCE, {})
            expected = (plan, present, whole_hash(source))
            fits = (mark.get("plan"), mark.get("hash"), mark.get("payload")) == expected
            kinds.append(mark["kind"] if fits else None)
        return pa.array(kinds, pa.string())

    def _write_part(self, part: pa.RecordBatch, kind: Kind) -> list[PointId]:
        ids: list[PointId] = part.column("id").to_pylist()
        hashes: list[str] = part.column("content_hash").to_pylist()
        vectors = vectors_of(part, "new")
        row_of = {point_id: row for row, point_id in enumerate(ids)}
        sources = self._source.retrieve(ids, payload=True, vectors=self._copied or False)
        points = []
        for point_id, payload, others in zip(
            sources.ids, sources.payloads, sources.vectors, strict=True
        ):
            row = row_of[point_id]
            mark = provenance(self._settings.plan, kind, hashes[row])
            points.append(self._copy(point_id, payload, others, vectors[row], mark))
        keys: ShardKeys = dict(zip(sources.ids, sources.shard_keys, strict=True))
        for key, rows in rows_by_key(sources.ids, keys).items():
            self._writer.upsert([points[row] for row in rows], key)
        return sources.ids

    def _copy(
        self,
        point_id: PointId,
        payload: Mapping[str, Any],
        others: Mapping[str, Vector],
        new: Vectors,
        mark: Mapping[str, str],
    ) -> NewPoint:
        kept = {name: others[name] for name in self._copied if name in others}
        marked = {**payload, PROVENANCE: {**mark, "payload": whole_hash(payload)}}
        return NewPoint(point_id, marked, {**kept, self._settings.new.name: new})
