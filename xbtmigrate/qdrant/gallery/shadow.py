"""Read and write a second collection with the new vectors, a copy of the source."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from xbtmigrate.backfill.step_times import Step
from xbtmigrate.protocols import Written
from xbtmigrate.qdrant.gallery.in_place import (
    GallerySettings,
    NamedVector,
    ShardKeys,
    made_by,
    result_of,
    rows_by_key,
)
from xbtmigrate.qdrant.gallery.provenance import (
    PLAN_LENGTH,
    PROVENANCE,
    build_provenance,
    pack_sketch,
    same_vectors,
    whole_hash,
    whole_sketches,
)
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.points import NewPoint, Page, Vector
from xbtmigrate.qdrant.wire.reader import Reader
from xbtmigrate.qdrant.wire.writer import Writer
from xbtmigrate.types import WITHOUT, Kind, PointId, make_batch, require_storable, vectors_of

_GONE = object()


class ShadowGallery:
    """A gallery of the source's points, whose new vectors are on copies in the shadow.

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
        # The old vector stays in the source, but a projected one depends on it.
        self._bound = list(dict.fromkeys([*copied, settings.old.name]))
        self._source = Reader(connection, source, settings.page, listed=settings.listed)
        self._shadow = Reader(connection, shadow, settings.page, listed=settings.listed)
        self._keyed = [replace(self._shadow, key=key) for key in settings.shard_keys or (None,)]
        self._writer = Writer(connection, shadow)

    def count(self, kind: Kind | None = None) -> int:
        """Count exactly: the source's points, or the copies of this kind."""
        if kind is None:
            return self._source.count()
        made = made_by(self._settings.plan, self._settings.new.name, kind)
        return self._shadow.count(made)

    def read(
        self,
        columns: Collection[str],
        *,
        ids: Sequence[PointId] | None = None,
        after: PointId | None = None,
        expected: Kind | None = None,  # noqa: ARG002 - see below
    ) -> Iterator[pa.RecordBatch]:
        """Yield batches of the source's points in id order, or of `ids` in the order given."""
        fields = self._settings.fields_for(set(columns) - {"kind"})
        given = [each.name for each in self._given(columns).values()]
        if "kind" in columns:
            # A copy is valid only for the whole payload.
            pages = self._source.select(ids, after=after, payload=True, vectors=False)
            if given:
                proofs = list(dict.fromkeys([*given, *self._bound]))
                pages = (self._with_vectors(page, proofs) for page in pages)
        else:
            payload, vectors = fields or False, given or False
            pages = self._source.select(ids, after=after, payload=payload, vectors=vectors)
        yield from (self._batch(page, columns) for page in pages if len(page))

    def write(self, batch: pa.RecordBatch, kind: Kind) -> Written:
        """Copy the source's present points with their new vectors; returns once applied.

        A point deleted from the source between the copy's read and write stays behind in the
        shadow until `prune`.
        """
        require_storable(batch, self._settings.new.size, kind)
        written: list[PointId] = []
        for start in range(0, batch.num_rows, self._settings.write_limit):
            part = batch.slice(start, self._settings.write_limit)
            written += self._write_part(part, kind)
        return result_of(batch, written)

    def prune(self) -> int:
        """Remove copies whose source points are gone or moved to another key; returns how many."""
        # One shard key at a time: a point that moved to another key has a stray copy under the old.
        removed = 0
        for reader in self._keyed:
            for copies in reader.scroll(payload=False, vectors=False):
                sources = self._source.retrieve(copies.ids)
                keys = dict(zip(sources.ids, sources.shard_keys, strict=True))
                strays = [each for each in copies.ids if keys.get(each, _GONE) != reader.key]
                if strays:
                    self._writer.delete(strays, reader.key)
                removed += len(strays)
        return removed

    def _batch(self, page: Page, columns: Collection[str]) -> pa.RecordBatch:
        new = self._settings.new
        copies = self._copies(page, columns)
        kinds = partial(self._kinds, page, copies)
        arrays = self._settings.payload_columns(page, columns, kinds)
        given = [name for name in columns if name != "new"]
        arrays |= self._settings.vector_columns(page, given)
        if "new" in columns:
            arrays["new"] = copies.dense(new.name, new.size)
        return make_batch(page.ids, **arrays)

    def _given(self, columns: Collection[str]) -> dict[str, NamedVector]:
        """The vectors of the source that are read, by column."""
        return self._settings.read_for([name for name in columns if name != "new"])

    def _with_vectors(self, page: Page, names: list[str]) -> Page:
        """Add vectors to points with their whole payloads, without those deleted meanwhile.

        Whole payloads come as JSON, because gRPC cannot carry all their integers; as JSON, vectors
        would take most of the time. A write between the two reads is found by the next sweep: the
        mark of a copy names the payload and the vectors that it was made from.
        """
        found = self._source.retrieve(page.ids, vectors=names)
        return replace(page.having(found.ids), vectors=found.vectors)

    def _copies(self, page: Page, columns: Collection[str]) -> Page:
        """Return the copies of a page's points, row by row; rows without a copy are empty."""
        # Nothing is read from the shadow, and the page serves as a placeholder of equal length.
        if not {"kind", "new"} & {*columns}:
            return page
        found = self._shadow.retrieve(
            page.ids,
            payload=[f'"{PROVENANCE}"'] if "kind" in columns else False,
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
        made: dict[PointId, tuple[str, str]] = {}
        rows = zip(page.ids, page.payloads, copies.payloads, hashes, strict=True)
        for point_id, source, copy, present in rows:
            mark: dict[str, Any] = copy.get(PROVENANCE, {})
            expected = (plan, present, whole_hash(source))
            # Each copy belongs to one point, so its mark holds whole hashes and is not shared.
            if (mark.get("plan"), mark.get("hash"), mark.get("payload")) == expected:
                made[point_id] = mark["kind"], mark.get("vectors", "")
        true = self._unchanged(made, page)
        kinds = [made[each][0] if each in true else None for each in page.ids]
        return pa.array(kinds, pa.string())

    def _unchanged(self, made: Mapping[PointId, tuple[str, str]], page: Page) -> set[PointId]:
        """Return the points whose vectors are those that were copied."""
        if not made:
            return set()
        present = page.having(made)
        # They are read with the page where it holds vectors at all.
        if not any(page.vectors):
            present = self._source.retrieve(list(made), vectors=self._bound)
        entries = [made[each][1] for each in present.ids]
        # Each vector in half precision adds its rounding to the sum of sketches.
        halves = len({*self._bound} & {*self._settings.halves})
        held = [_only(self._bound, vectors) for vectors in present.vectors]
        same = same_vectors(entries, whole_sketches(held), halves)
        return {each for each, yes in zip(present.ids, same, strict=True) if yes}

    def _write_part(self, part: pa.RecordBatch, kind: Kind) -> list[PointId]:
        row_of = {point_id: row for row, point_id in enumerate(part.column("id").to_pylist())}
        # The copy is of the present point, not of the point as read; deleted ones are left out
        # here.
        sources = self._with_vectors(self._source.retrieve(list(row_of), payload=True), self._bound)
        chosen = part.take(pa.array([row_of[each] for each in sources.ids], pa.int64()))
        # The mark has the content hash of the batch: if the text has changed since it was read,
        # the mark does not match and the point is due again.
        with self._settings.times.time(Step.MARK):
            marks = self._marks(chosen, kind, sources)
        made: list[dict[str, Vector]] = [{} for _ in sources.ids]
        if kind not in WITHOUT:
            made = [{self._settings.new.name: row} for row in vectors_of(chosen, "new")]
        points = [
            NewPoint(
                point_id,
                {**sources.payloads[row], PROVENANCE: marks[row]},
                {**_only(self._copied, sources.vectors[row]), **made[row]},
            )
            for row, point_id in enumerate(sources.ids)
        ]
        keys: ShardKeys = dict(zip(sources.ids, sources.shard_keys, strict=True))
        for key, rows in rows_by_key(sources.ids, keys).items():
            self._writer.upsert([points[row] for row in rows], key)
        return sources.ids

    def _marks(self, part: pa.RecordBatch, kind: Kind, sources: Page) -> list[dict[str, str]]:
        """Build the mark of each copy: hashes of content and payload, a sketch of the vectors."""
        made_from = sources.vectors
        if kind is not Kind.ENCODED:
            # These vectors may have been changed, added or deleted since the batch was read.
            given = self._given(["old"])
            names = {space.name for space in given.values()}
            made_from = [
                {name: each for name, each in vectors.items() if name not in names}
                for vectors in made_from
            ]
            for column, space in given.items():
                rows = vectors_of(part, column)
                for row in np.flatnonzero(part[column].is_valid()):
                    made_from[row][space.name] = rows[row]
        entries = pack_sketch(whole_sketches(made_from))
        hashes = part.column("content_hash").to_pylist()
        return [
            {
                **build_provenance(self._settings.plan, kind, hashes[row]),
                "payload": whole_hash(payload),
                "vectors": entries[row],
            }
            for row, payload in enumerate(sources.payloads)
        ]


def _only(names: Sequence[str], vectors: Mapping[str, Vector]) -> dict[str, Vector]:
    return {name: vectors[name] for name in names if name in vectors}
