"""Cut a collection into ranges of ids that workers can read side by side."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pyarrow as pa
from qdrant_client import models

from xbtmigrate.protocols import Gallery, Written
from xbtmigrate.qdrant.collection.facts import page_within
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.types import Kind, PointId

POINTS = 8_192
"""Points in a range of a collection that is not too large for that."""
MAX_RANGES = 4_096
# Of n sampled ids between two bounds, their number varies by its square root: here by a quarter.
SAMPLED = 16
_SAMPLE = 10_000


@dataclass(frozen=True, slots=True)
class IdRange:
    """Points behind `after` up to `last`, in the store's order; None is open."""

    after: PointId | None = None
    last: PointId | None = None


def cut_ranges(
    connection: Connection, collection: str, points: int, after: PointId | None, least: int
) -> list[IdRange]:
    """Cut the points behind an id into ranges of about equal size, in the store's order.

    Args:
        connection: The open Qdrant.
        collection: The collection.
        points: Points of it.
        after: Only points behind this id; None for all.
        least: How many ranges there should be at least, where there are enough points.
    """
    wanted = min(MAX_RANGES, max(least, points // POINTS))
    ids = sorted(_sample_ids(connection, collection, wanted * SAMPLED), key=store_order)
    if after is not None:
        ids = [each for each in ids if store_order(each) > store_order(after)]
    # The share of the ids that is left is that of the points.
    bounds = ids[SAMPLED - 1 : -1 : SAMPLED]
    return [IdRange(*each) for each in pairwise([after, *bounds, None])]


def store_order(point: PointId) -> tuple[bool, int, str]:
    """Return a key that sorts ids as a scroll yields them: numbers, then UUIDs."""
    number = point.isdecimal()
    return not number, int(point) if number else 0, point


def _sample_ids(connection: Connection, collection: str, count: int) -> set[PointId]:
    """Draw about so many ids at random."""
    page = page_within(connection, collection, min(count, _SAMPLE))
    found: set[PointId] = set()
    for _ in range(0, count, page):
        answer = connection.call(
            lambda: connection.client.query_points(
                collection,
                query=models.SampleQuery(sample=models.Sample.RANDOM),
                limit=page,
                with_payload=False,
            )
        )
        found |= {str(point.id) for point in answer.points}
    return found


@dataclass(frozen=True, slots=True)
class RangeGallery:
    """The points of a gallery within a range; points asked for by id are not restricted.

    Attributes:
        gallery: The gallery.
        within: The range.
    """

    gallery: Gallery
    within: IdRange

    def count(self, kind: Kind | None = None) -> int:
        """Count exactly, in the whole gallery."""
        return self.gallery.count(kind)

    def read(
        self,
        columns: Collection[str],
        *,
        ids: Sequence[PointId] | None = None,
        after: PointId | None = None,
        expected: Kind | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Yield batches of points."""
        if ids is not None:
            yield from self.gallery.read(columns, ids=ids, expected=expected)
            return
        last = None if self.within.last is None else store_order(self.within.last)
        start = after or self.within.after
        for batch in self.gallery.read(columns, after=start, expected=expected):
            if last is None or store_order(batch["id"][-1].as_py()) <= last:
                yield batch
                continue
            inside = sum(store_order(each) <= last for each in batch["id"].to_pylist())
            if inside:
                yield batch.slice(0, inside)
            return

    def write(self, batch: pa.RecordBatch, kind: Kind) -> Written:
        """Store `new` with its provenance."""
        return self.gallery.write(batch, kind)

    def prune(self) -> int:
        """Remove nothing: the command does that for the whole shadow."""
        return 0
