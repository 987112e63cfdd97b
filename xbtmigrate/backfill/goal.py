"""Domain: what a backfill run has to reach, and how it went."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from xbtmigrate.backfill.members import Members
from xbtmigrate.migration.phases import Counts, MigrationRecord, Stage
from xbtmigrate.types import PointId, Vectors


@dataclass(frozen=True, slots=True)
class Demand:
    """Which points have to be encoded; a projected vector is enough for the others.

    Attributes:
        every: Whether all of them have to be.
        first: Those that have to be in any case.
    """

    every: bool = False
    first: Members = field(default_factory=Members)

    def encoded(self, ids: Sequence[PointId]) -> npt.NDArray[np.bool_]:
        """Say of each point whether it has to be encoded; shape (len(ids),)."""
        return self.first.among(ids) | self.every


@dataclass(frozen=True, slots=True)
class Goal:
    """What a run has to reach.

    Attributes:
        fraction: Share of the frozen order that gets true new vectors.
        projects: Whether every other point gets a projected vector.
        max_quarantined: Largest share of the points that may turn out impossible to embed.
    """

    fraction: float
    projects: bool
    max_quarantined: float

    def places(self, ordered: int) -> int:
        """Return how many of `ordered` points the fraction stands for."""
        return min(ordered, math.ceil(self.fraction * ordered - 1e-9))

    def demand(self, order: Callable[[], tuple[Sequence[PointId], str]]) -> Demand:
        """Say which points have to be encoded; the order is asked for only where it decides."""
        if self.fraction >= 1 or not self.projects:
            return Demand(every=True)
        if self.fraction == 0:
            return Demand()
        ids, _ = order()
        return Demand(first=Members(ids[: self.places(len(ids))]))


@dataclass(frozen=True, slots=True)
class Until:
    """A question on the way that can end the encoding before the goal's fraction.

    Attributes:
        every: Places of the order between two questions.
        reached: Asked with how many places have been gone through, all of it written, and how
            many there are; true ends the encoding there, as complete.
    """

    every: int
    reached: Callable[[int, int], bool]


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a run, for whoever shows it: points of this pass done and to do, run's counts."""

    stage: Stage
    done: int
    total: int
    counts: Counts


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
    """

    record: MigrationRecord
    counts: Counts
    left: int
    quarantined: dict[PointId, str]
    stopped: str
    seconds: float


class Known(Protocol):
    """New vectors that were paid for earlier."""

    def find(self, hashes: Sequence[str]) -> tuple[Vectors, npt.NDArray[np.bool_]]:
        """Look up by content hash; returns (n, d) vectors and which rows were found."""
        ...
