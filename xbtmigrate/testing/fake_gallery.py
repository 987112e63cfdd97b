"""Provide a gallery in memory, for tests that need points but no Qdrant."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from xbtmigrate.protocols import Written
from xbtmigrate.types import (
    WITHOUT,
    Kind,
    Modality,
    PointId,
    Vectors,
    content_hash,
    make_batch,
    require_storable,
    usable,
    vector_array,
    vectors_of,
)


@dataclass(slots=True)
class FakePoint:
    """One point as an application stores it; `new` and `provenance` belong to the migration.

    Attributes:
        text: Embedded text, None where it is missing.
        old: Vector of the old model, shape (d_old,); None where the point has none.
        image: Image reference, None where it is missing.
        new: Vector of the new model, shape (d_new,).
        provenance: Plan, kind and content hash of `new`.
        made: The very vectors that `provenance` is about: new where there is one, and old unless
            it was encoded; NaN where there was none.
    """

    text: str | None
    old: Vectors | None
    image: str | None = None
    new: Vectors | None = None
    provenance: tuple[str, Kind, str] | None = None
    made: tuple[Vectors | None, Vectors | None] | None = None


class FakeGallery:
    """A gallery in memory. Tests play the application by changing `points` directly.

    Args:
        points: Id -> point. Two galleries over the same mapping see each other's writes.
        sizes: Lengths of the old and of the new vectors.
        plan: Plan the writes belong to.
        stored: Which field the vectors embed.
        page: Number of points in a batch.

    Attributes:
        writes: Every write so far: its kind and the ids it was given.
    """

    def __init__(
        self,
        points: MutableMapping[PointId, FakePoint],
        *,
        sizes: tuple[int, int],
        plan: str = "plan",
        stored: Modality = Modality.TEXT,
        page: int = 100,
    ) -> None:
        self.points = points
        self.writes: list[tuple[Kind, list[PointId]]] = []
        self._sizes = dict(zip(("old", "new"), sizes, strict=True))
        self._plan = plan
        self._stored = stored
        self._page = page

    def count(self, kind: Kind | None = None) -> int:
        """Count all points, or those that this plan dealt with in this way."""
        if kind is None:
            return len(self.points)
        return sum(
            (point.new is not None or kind in WITHOUT)
            and point.provenance is not None
            and point.provenance[:2] == (self._plan, kind)
            for point in self.points.values()
        )

    def read(
        self,
        columns: Collection[str],
        *,
        ids: Sequence[PointId] | None = None,
        after: PointId | None = None,
        expected: Kind | None = None,  # noqa: ARG002 - nothing is dear here
    ) -> Iterator[pa.RecordBatch]:
        """Yield batches of points in id order, or of `ids` in the order given."""
        order = sorted(self.points, key=store_order) if ids is None else list(ids)
        if after is not None:
            order = [each for each in order if store_order(each) > store_order(after)]
        for start in range(0, len(order), self._page):
            # Looked up once: a test may delete points meanwhile, from another thread.
            found = {each: self.points.get(each) for each in order[start : start + self._page]}
            page = {each: point for each, point in found.items() if point is not None}
            if page:
                yield self._batch(page, columns)

    def write(self, batch: pa.RecordBatch, kind: Kind) -> Written:
        """Store `new` and its provenance on the points that still exist."""
        require_storable(batch, self._sizes["new"], kind)
        ids: list[PointId] = batch.column("id").to_pylist()
        hashes = batch.column("content_hash").to_pylist()
        self.writes.append((kind, ids))
        # An encoded vector depends on the content alone: a new old vector does not make it due.
        old = None if kind is Kind.ENCODED else vectors_of(batch, "old")
        for row, each in enumerate(ids):
            point = self.points.get(each)
            if point is not None:
                if kind not in WITHOUT:
                    # A copy: a view would keep the whole batch in memory.
                    point.new = vectors_of(batch, "new")[row].copy()
                made_from = None if old is None else old[row].copy()
                if made_from is not None and batch["old"][row].as_py() is None:
                    made_from[:] = np.nan
                point.provenance = (self._plan, kind, hashes[row])
                point.made = None if kind in WITHOUT else point.new, made_from
        written = [each for each in ids if each in self.points]
        return Written(written, [each for each in ids if each not in self.points])

    def prune(self) -> int:
        """Remove nothing: the new vectors live on the points themselves."""
        return 0

    def _batch(self, page: Mapping[PointId, FakePoint], columns: Collection[str]) -> pa.RecordBatch:
        ids, points = list(page), list(page.values())
        arrays: dict[str, pa.Array] = {}
        if "source" in columns:
            for name in ("text", "image"):
                arrays[name] = pa.array([getattr(point, name) for point in points], pa.string())
            arrays["content_hash"] = pa.array(map(self._hash, points), pa.string())
        if "kind" in columns:
            arrays["kind"] = pa.array(map(self._kind, points), pa.string())
        for name in ("old", "new"):
            if name in columns:
                rows = [getattr(point, name) for point in points]
                arrays[name] = _vectors(rows, self._sizes[name])
        return make_batch(ids, **arrays)

    def _hash(self, point: FakePoint) -> str:
        return content_hash(point.text if self._stored is Modality.TEXT else point.image)

    def _kind(self, point: FakePoint) -> Kind | None:
        if point.provenance is None:
            return None
        # The rule of the real galleries: plan, content and the very vectors, or the point is due.
        plan, kind, made_from = point.provenance
        true = plan == self._plan and made_from == self._hash(point) and _holds(point)
        return kind if true else None


def store_order(point_id: PointId) -> tuple[int, int, str]:
    """Sort key of the store's own order: integers first, by value, then UUIDs."""
    # Qdrant scrolls in this order, and a cursor is only meaningful within it.
    return (0, int(point_id), "") if point_id.isdecimal() else (1, 0, point_id)


def _holds(point: FakePoint) -> bool:
    """Return whether a point still holds the vectors that its provenance is about."""
    present = point.new, point.old
    made = point.made or present
    pairs = zip(made, present, strict=True)
    return all(was is None or _same(was, now) for was, now in pairs)


def _same(was: Vectors, now: Vectors | None) -> bool:
    # NaN was recorded for a vector that was missing, and NaN never equals itself.
    missing = now is None or not np.isfinite(now).all()
    return bool(np.isnan(was).all()) if missing else np.array_equal(was, np.asarray(now))


def _vectors(rows: Sequence[Vectors | None], size: int) -> pa.Array:
    matrix = np.full((len(rows), size), np.nan, dtype=np.float32)
    for number, row in enumerate(rows):
        if row is not None:
            matrix[number] = row
    return vector_array(matrix, usable(matrix))
