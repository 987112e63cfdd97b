"""The passes of a backfill over the points, as an engine carries them out.

A pass yields as its parts are done, in its own order. The loop then stores how far it has come.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from xbtmigrate.backfill.goal import Due, Sweep
from xbtmigrate.backfill.make_vectors import VectorMaker, is_without
from xbtmigrate.backfill.pipeline import read_ahead
from xbtmigrate.backfill.step_times import Step
from xbtmigrate.migration.phases import Counts
from xbtmigrate.types import Kind, PointId


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a pass whose writes are applied, or queued in the `later` of the maker.

    Attributes:
        points: Points that it covers, or places of the order.
        last: The last point of it and of all parts before it; None where that is unknown.
        due: Points of it that a sweep found to be completed.
    """

    points: int
    last: PointId | None = None
    due: int = 0


Parts: TypeAlias = Generator[Part, None, None]
"""What a pass yields. Closing it leaves no write behind that is not queued in `later`."""


class Passes(Protocol):
    """Carries out the passes of one run. What is not written is noted with its vector maker."""

    def project(self, after: PointId | None) -> Parts:
        """Project the points behind `after`, in the store's own order, that are due."""
        ...

    def encode(self, ids: Sequence[PointId], expected: Kind | None) -> Parts:
        """Encode points in this order, without those that are encoded already."""
        ...

    def sweep(self, sweep: Sweep) -> Parts:
        """Read every point once more, and complete those that are due."""
        ...


@dataclass(frozen=True, slots=True)
class LocalPasses:
    """The passes in this process, batch by batch.

    Attributes:
        maker: Makes and writes the vectors; knows the points.
    """

    maker: VectorMaker

    def project(self, after: PointId | None) -> Parts:
        """Project the points behind `after` that are due."""
        batches = self.maker.gallery.read({"source", "kind", "old"}, after=after)
        for batch in read_ahead(self.maker.times.each(Step.READ, batches)):
            self.maker.project(batch.filter(pc.is_null(batch["kind"])))
            yield Part(len(batch), batch["id"][-1].as_py())

    def encode(self, ids: Sequence[PointId], expected: Kind | None) -> Parts:
        """Encode points in this order."""
        chunks = self.maker.times.each(Step.READ, self._chunks(ids, expected))
        for asked, batches in read_ahead(chunks):
            for batch in batches:
                self.maker.encode(batch.filter(_not_encoded(batch)))
            # Ids of the frozen order that are no longer there were deleted by the application.
            self.maker.note(Counts(vanished=asked - sum(map(len, batches))))
            yield Part(asked)

    def sweep(self, sweep: Sweep) -> Parts:
        """Complete what is due of every point that the goal covers."""
        batches = self.maker.times.each(Step.SWEEP, self._swept(sweep))
        for batch in read_ahead(batches):
            yield Part(len(batch), due=self._complete(batch, sweep.due, encodes=sweep.encodes))

    def _chunks(
        self, ids: Sequence[PointId], expected: Kind | None
    ) -> Iterator[tuple[int, list[pa.RecordBatch]]]:
        """Yield the number of ids in each batch, and what is there of its points."""
        size = self.maker.batch_size
        for start in range(0, len(ids), size):
            # A list: a lazy slice would be read id by id wherever the gallery looks at it.
            chunk = list(ids[start : start + size])
            batches = self.maker.gallery.read({"source", "kind"}, ids=chunk, expected=expected)
            yield len(chunk), list(batches)

    def _swept(self, sweep: Sweep) -> Iterator[pa.RecordBatch]:
        """Yield batches of the points that a sweep reads."""
        if sweep.ids is None:
            yield from self.maker.gallery.read({"source", "kind"}, expected=sweep.expected)
            return
        for _, batches in self._chunks(sweep.ids, sweep.expected):
            yield from batches

    def _complete(self, batch: pa.RecordBatch, due: Due, *, encodes: bool) -> int:
        """Complete each point of a swept batch; returns how many were due.

        A point may have lost its encoded vector again, to an application that wrote back what it
        had read before or to a request that arrived late. One that cannot be projected is encoded
        wherever the goal encodes at all.
        """
        maker = self.maker
        encode = pa.array(due.contains(batch["id"].to_pylist()))
        if encodes:
            # The encoder may now accept content that it refused in an earlier run.
            encode = pc.or_(encode, is_without(batch))
        encode = pc.and_(pc.and_(encode, _not_encoded(batch)), maker.encodable(batch))
        todo = batch.filter(pc.or_(pc.is_null(batch["kind"]), encode))
        settled = 0
        # Read again just before the work, with the old vector: sweeps leave it out to read less,
        # and the point may have changed since.
        again = maker.gallery.read({"source", "kind", "old"}, ids=todo["id"].to_pylist())
        for current in maker.times.each(Step.SWEEP, again):
            settled += maker.complete(current, encodes=encodes)
        return len(todo) - settled


def _not_encoded(batch: pa.RecordBatch) -> pa.Array:
    return pc.fill_null(pc.not_equal(batch["kind"], Kind.ENCODED.value), fill_value=True)
