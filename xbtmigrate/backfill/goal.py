"""The goal of a backfill, its progress reports, and its outcome."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from xbtmigrate.backfill.id_set import IdSet
from xbtmigrate.backfill.step_times import Step
from xbtmigrate.migration.phases import Counts, MigrationRecord, Stage
from xbtmigrate.types import Kind, PointId, Vectors


@dataclass(frozen=True, slots=True)
class Due:
    """The points that must be encoded; a projected vector is enough for the others.

    Attributes:
        every: Whether all points must be.
        first: Points that must be in any case.
    """

    every: bool = False
    first: IdSet = field(default_factory=IdSet)

    def contains(self, ids: Sequence[PointId]) -> npt.NDArray[np.bool_]:
        """Return which of these points must be encoded; shape (len(ids),)."""
        return self.first.contains(ids) | self.every


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep has to see to.

    Attributes:
        due: Which of the points it reads must be encoded.
        expected: The kind that most of them should have by now.
        encodes: Whether the run encodes at all.
        ids: The points it reads; None for all of them.
    """

    due: Due
    expected: Kind
    encodes: bool
    ids: Sequence[PointId] | None = None


@dataclass(frozen=True, slots=True)
class Goal:
    """The goal of a run.

    Attributes:
        fraction: Share of the frozen order that gets true new vectors.
        projects: Whether every other point gets a projected vector.
        max_quarantined: Largest share of the points that may turn out impossible to embed.
    """

    fraction: float
    projects: bool
    max_quarantined: float

    def places(self, ordered: int) -> int:
        """Return how many places of an order of `ordered` points the fraction covers."""
        # 0.07 * 100 is 7.000000000000001 in floating point: without the margin, 8 places.
        return min(ordered, math.ceil(self.fraction * ordered - 1e-9))

    def sweep(self, order: Callable[[], tuple[Sequence[PointId], str]]) -> Sweep:
        """Return what a sweep has to see to; loads the order only where it decides."""
        if self.fraction >= 1:
            return Sweep(Due(every=True), Kind.ENCODED, encodes=True)
        if self.projects and self.fraction == 0:
            return Sweep(Due(), Kind.PROJECTED, encodes=False)
        ids, _ = order()
        first = ids[: self.places(len(ids))]
        if self.projects:
            return Sweep(Due(first=IdSet(first)), Kind.PROJECTED, encodes=True)
        # Points beyond the first share of the order get no new vector at all.
        return Sweep(Due(every=True), Kind.ENCODED, encodes=self.fraction > 0, ids=first)


@dataclass(frozen=True, slots=True)
class StopCheck:
    """A quality check between batches that can end the encoding before the goal's fraction.

    Attributes:
        every: Places of the order between two checks.
        reached: Called with the places done, all of them written, and the places there are; true
            ends the encoding there, as complete.
    """

    every: int
    reached: Callable[[int, int], bool]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come, as reported after each batch.

    Attributes:
        stage: The pass it belongs to.
        done: Points of this pass that are done.
        total: Points of this pass.
        counts: What the run did so far.
        quarantined: Points that the run could not embed so far.
    """

    stage: Stage
    done: int
    total: int
    counts: Counts
    quarantined: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        record: The journal's record at the end.
        counts: What this run did.
        left: Points that the last sweep still found changing under it.
        quarantined: Point id -> why it cannot be embedded.
        stopped: Why the run stopped early, "" if it went to its end.
        seconds: Working time of this run.
        steps: Seconds spent in each step, added up over the run's threads.
    """

    record: MigrationRecord
    counts: Counts
    left: int
    quarantined: dict[PointId, str]
    stopped: str
    seconds: float
    steps: Mapping[Step, float]


class VectorLookup(Protocol):
    """Cached vectors of the new model, so that no content is encoded twice."""

    def find(self, hashes: Sequence[str]) -> tuple[Vectors, npt.NDArray[np.bool_]]:
        """Look up by content hash; returns (n, d) vectors and which rows were found."""
        ...
