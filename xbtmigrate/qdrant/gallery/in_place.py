"""Read and write points that hold the old and the new vector side by side."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from qdrant_client import models

from xbtmigrate.backfill.step_times import Step, StepTimes
from xbtmigrate.errors import CollectionError
from xbtmigrate.projectors import EmbedTexts
from xbtmigrate.protocols import Written
from xbtmigrate.qdrant.gallery.provenance import (
    GROUP,
    PLAN_LENGTH,
    PROVENANCE,
    Sketches,
    build_shared_provenance,
    find_sketch,
    same_vectors,
    sketch,
)
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.points import EmbeddedFields, Page
from xbtmigrate.qdrant.wire.reader import LISTED, Reader
from xbtmigrate.qdrant.wire.writer import Writer
from xbtmigrate.types import (
    WITHOUT,
    Kind,
    PointId,
    Vectors,
    make_batch,
    require_storable,
    vector_array,
    vectors_of,
)

# Consecutive failures of one write that no deleted point explains.
ATTEMPTS = 5

ShardKeys: TypeAlias = dict[PointId, models.ShardKey | None]
"""Existing points and the shard keys they live under, None under automatic sharding."""


@dataclass(frozen=True, slots=True)
class NamedVector:
    """Name and length of a vector; the name is "" for an unnamed one."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class GallerySettings:
    """Settings of both galleries.

    Attributes:
        fields: Where the embedded content is in a payload.
        plan: Digest of the plan that the writes belong to.
        old: The stored vector.
        new: The vector that is filled.
        side: The vector that the projector takes beside the stored one; None for none.
        text_side: Makes what it takes of the text in place of such a vector; None for nothing.
        shard_keys: Shard keys, one of which writes have to name; none under automatic sharding.
        halves: Names of the vectors that are stored in half precision.
        page: Points in a batch of `read`, at most.
        listed: Ids in one listing, at most.
        write_limit: Points in one write, at most.
        times: Measures how long marks take.
    """

    fields: EmbeddedFields
    plan: str
    old: NamedVector
    new: NamedVector
    side: NamedVector | None = None
    text_side: EmbedTexts | None = None
    shard_keys: Sequence[models.ShardKey] = ()
    halves: Collection[str] = ()
    page: int = 512
    listed: int = LISTED
    write_limit: int = 512
    times: StepTimes = field(default_factory=StepTimes)

    def read_for(self, columns: Collection[str]) -> dict[str, NamedVector]:
        """Return the vectors behind these columns of a batch."""
        spaces = {"old": self.old, "side": self.side if "old" in columns else None, "new": self.new}
        wanted = {*columns, "side"}
        return {name: space for name, space in spaces.items() if space and name in wanted}

    def fields_for(self, columns: Collection[str]) -> list[str]:
        """Return the payload keys, besides provenance, that these columns are made from."""
        made = {"source", "kind"} | ({"old"} if self.text_side else set())
        return self.fields.keys() if made & {*columns} else []

    def vector_columns(self, page: Page, columns: Collection[str]) -> dict[str, pa.Array]:
        """Build the vector columns; side vectors of the text follow the old ones."""
        arrays = {}
        for name, space in self.read_for(columns).items():
            arrays[name] = page.dense(space.name, space.size)
            if name == "old" and self.text_side is not None:
                texts = [self.fields.text_of(payload) for payload in page.payloads]
                arrays["side"] = vector_array(self.text_side(texts))
        return arrays

    def payload_columns(
        self, page: Page, columns: Collection[str], kinds: Callable[[Sequence[str]], pa.Array]
    ) -> dict[str, pa.Array]:
        """Build the columns that come from payloads; `kinds` makes its own of content hashes."""
        if not {"source", "kind"} & {*columns}:
            return {}
        source = page.source_columns(self.fields)
        arrays = source if "source" in columns else {}
        if "kind" in columns:
            arrays = {**arrays, "kind": kinds(source["content_hash"].to_pylist())}
        return arrays

    def bound(self, kind: Kind) -> dict[str, NamedVector]:
        """Return the vectors that a mark names.

        A projected vector is valid only for the vectors it was made from, and a point stays without
        one only as long as these do not change.
        """
        if kind in WITHOUT:
            return self.read_for(["old"])
        return {"new": self.new} | (self.read_for(["old"]) if kind is Kind.PROJECTED else {})


class InPlaceGallery:
    """A gallery whose points hold the old and the new vector side by side."""

    def __init__(self, connection: Connection, collection: str, settings: GallerySettings) -> None:
        self._connection = connection
        self._settings = settings
        self._reader = Reader(connection, collection, settings.page, listed=settings.listed)
        self._writer = Writer(connection, collection)

    def count(self, kind: Kind | None = None) -> int:
        """Count exactly: all points, or those to which this plan gave this kind."""
        if kind is None:
            return self._reader.count()
        made = made_by(self._settings.plan, self._settings.new.name, kind)
        return self._reader.count(made)

    def read(
        self,
        columns: Collection[str],
        *,
        ids: Sequence[PointId] | None = None,
        after: PointId | None = None,
        expected: Kind | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Yield batches of points in id order, or of `ids` in the order given."""
        fields = self._settings.fields_for(columns)
        payload = [*fields, f'"{PROVENANCE}"'] if "kind" in columns else fields or False
        spaces = self._settings.read_for(columns)
        if expected is not None:
            spaces |= self._settings.bound(expected)
        vectors = list(dict.fromkeys(space.name for space in spaces.values()))
        pages = self._reader.select(ids, after=after, payload=payload, vectors=vectors or False)
        yield from (self._batch(page, columns, vectors) for page in pages)

    def write(self, batch: pa.RecordBatch, kind: Kind) -> Written:
        """Store `new` and its provenance, and wait until every shard has applied both."""
        require_storable(batch, self._settings.new.size, kind)
        written: list[PointId] = []
        for start in range(0, batch.num_rows, self._settings.write_limit):
            part = batch.slice(start, self._settings.write_limit)
            written += self._write_part(part, kind)
        return result_of(batch, written)

    def prune(self) -> int:
        """Remove nothing: deleting a point also deletes its new vector."""
        return 0

    def _batch(
        self, page: Page, columns: Collection[str], vectors: Collection[str]
    ) -> pa.RecordBatch:
        kinds = partial(self._kinds, page, vectors)
        arrays = self._settings.payload_columns(page, columns, kinds)
        return make_batch(page.ids, **arrays, **self._settings.vector_columns(page, columns))

    def _kinds(self, page: Page, vectors: Collection[str], hashes: Sequence[str]) -> pa.Array:
        """Return the kind that this plan gave each point in its present state; null if due."""
        made: dict[PointId, tuple[str, str]] = {}
        for point_id, payload, present in zip(page.ids, page.payloads, hashes, strict=True):
            # A payload that the application wrote back may hold any earlier mark: it is
            # trusted until content and vectors match it.
            mark = payload.get(PROVENANCE, {})
            entry = find_sketch(mark, self._settings.plan, point_id, present)
            if entry is not None:
                made[point_id] = mark["kind"], entry
        true = self._true_of(made, page, vectors)
        kinds = [made[each][0] if each in true else None for each in page.ids]
        return pa.array(kinds, pa.string())

    def _true_of(
        self, made: Mapping[PointId, tuple[str, str]], page: Page, vectors: Collection[str]
    ) -> set[PointId]:
        """Return the points that hold the vectors their marks name; `vectors` are in the page."""
        true: set[PointId] = set()
        for kind in Kind:
            ids = [each for each, (name, _) in made.items() if name == kind]
            if not ids:
                continue
            spaces = list(self._settings.bound(kind).values())
            names = [each.name for each in spaces]
            # A sweep reads these vectors with the page (`expected`); other kinds are rare and
            # looked up.
            if set(names) <= set(vectors):
                present = page.having(ids)
            else:
                present = self._reader.retrieve(ids, vectors=names)
            sketches = self._sketches(
                [present.matrix(each.name, each.size) for each in spaces], kind
            )
            entries = [made[each][1] for each in present.ids]
            same = same_vectors(entries, sketches, len({*names} & {*self._settings.halves}))
            true.update(each for each, yes in zip(present.ids, same, strict=True) if yes)
        return true

    def _sketches(self, vectors: Sequence[Vectors], kind: Kind) -> Sketches:
        pairs = zip(self._settings.bound(kind).values(), vectors, strict=True)
        each = [sketch(space.name, rows) for space, rows in pairs]
        if kind in WITHOUT:
            # Such a mark is valid for a vector that is missing or unusable.
            each = [np.nan_to_num(rows, posinf=0, neginf=0) for rows in each]
        # A projected point's mark names the sum of both sketches: a change of either vector shows.
        sketches: Sketches = np.add.reduce(each)
        return sketches

    def _write_part(self, part: pa.RecordBatch, kind: Kind) -> list[PointId]:
        """Write until every point of the part is either stored or deleted."""
        keys: ShardKeys = dict.fromkeys(part.column("id").to_pylist())
        if self._settings.shard_keys:
            # Under custom sharding a write goes to one shard key, which is read just before.
            keys = self._present(list(keys))
        unexplained = 0
        while True:
            try:
                self._send(part, kind, keys)
            except CollectionError:
                # A missing point fails the request after the others were stored.
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
        vectors = [vectors_of(part, name) for name in self._settings.bound(kind)]
        if kind in WITHOUT:
            # A null becomes NaN, so that the mark names the absence of the vector.
            present = [np.asarray(part[name].is_valid()) for name in self._settings.bound(kind)]
            vectors = [
                np.where(there[:, None], rows, np.nan)
                for there, rows in zip(present, vectors, strict=True)
            ]
        with self._settings.times.time(Step.MARK):
            sketches = self._sketches(vectors, kind)
        for key, rows in rows_by_key(ids, keys).items():
            members = [ids[row] for row in rows]
            with self._settings.times.time(Step.MARK):
                self._mark(members, [hashes[row] for row in rows], kind, sketches[rows], key)
            if kind in WITHOUT:
                continue
            # The first vector of `bound` is the new one; without shard keys its rows need no copy.
            chosen = vectors[0] if len(rows) == len(ids) else vectors[0][rows]
            self._writer.update_vectors(members, self._settings.new.name, chosen, key)

    def _mark(
        self,
        ids: Sequence[PointId],
        hashes: Sequence[str],
        kind: Kind,
        sketches: Sketches,
        key: models.ShardKey | None,
    ) -> None:
        """Send the marks of points under one shard key, ahead of their vectors."""
        marks = []
        # Sixteen points share one mark: an operation on payloads costs a server as much as a
        # vector, however many points it names.
        for start in range(0, len(ids), GROUP):
            group = slice(start, start + GROUP)
            made_from = dict(zip(ids[group], hashes[group], strict=True))
            mark = build_shared_provenance(self._settings.plan, kind, made_from, sketches[group])
            marks.append((list(made_from), {PROVENANCE: mark}))
        if kind in WITHOUT:
            # No vector write follows to wait for, so this write waits for itself.
            self._writer.merge_payloads(marks, key)
        else:
            # The vectors of the same points go to the same shards, which apply them behind the
            # marks: waiting for these is waiting for both. A mark without its vector is not valid.
            self._writer.enqueue_payloads(marks, key)


def made_by(plan: str, vector: str, kind: Kind) -> models.Filter:
    """Select the points to which a plan gave a kind.

    Args:
        plan: Digest of the plan.
        vector: Name of the new vector.
        kind: The kind.
    """
    values = {"plan": plan[:PLAN_LENGTH], "kind": str(kind)}
    conditions: list[models.Condition] = [
        models.FieldCondition(key=f"{PROVENANCE}.{key}", match=models.MatchValue(value=value))
        for key, value in values.items()
    ]
    # A point whose vector the application has dropped keeps its mark, but is not done.
    if kind not in WITHOUT:
        conditions.append(models.HasVectorCondition(has_vector=vector))
    return models.Filter(must=conditions)


def rows_by_key(ids: Sequence[PointId], keys: ShardKeys) -> dict[models.ShardKey | None, list[int]]:
    """Group the rows of the points in `keys` by their shard key."""
    rows: dict[models.ShardKey | None, list[int]] = {}
    for row, point_id in enumerate(ids):
        if point_id in keys:
            rows.setdefault(keys[point_id], []).append(row)
    return rows


def result_of(batch: pa.RecordBatch, written: Collection[PointId]) -> Written:
    """Return which points of a batch were stored and which had been deleted."""
    stored = set(written)
    ids: list[PointId] = batch.column("id").to_pylist()
    return Written(
        [each for each in ids if each in stored], [each for each in ids if each not in stored]
    )
