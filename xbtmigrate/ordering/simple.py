"""Orders that are not learned, and the ranking of points by their scores."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from xbtmigrate.errors import PluginError
from xbtmigrate.protocols import Ordering, Projector
from xbtmigrate.types import Direction, PointId, Vectors

PriorityScores = npt.NDArray[np.float32]


class RandomOrdering:
    """Random order by a hash of seed and id, the same across batches and restarts.

    Args:
        seed: Chooses the order.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self._key = str(seed).encode()

    def score(self, ids: Sequence[PointId], old: Vectors) -> PriorityScores:  # noqa: ARG002
        """Hash each id to a score between 0 and 1. Shape (n,)."""
        # A keyed hash rather than a generator: a point's place does not depend on what else is
        # read.
        hashes = b"".join(
            hashlib.blake2b(point.encode(), key=self._key, digest_size=8).digest() for point in ids
        )
        return (np.frombuffer(hashes, "<u8") / 2**64).astype(np.float32)


class UncertaintyOrdering:
    """Points with the largest expected projection error come first (FastFill, section 3.2).

    Args:
        projector: A forward projector that estimates its own error.

    Raises:
        PluginError: The projector maps queries, not stored vectors.
    """

    takes_side = True

    def __init__(self, *, projector: Projector) -> None:
        if projector.direction is not Direction.FORWARD:
            raise PluginError(
                f"the uncertainty order needs a forward projector, not a {projector.direction}",
                "train a forward projector, or choose another order",
            )
        self._projector = projector

    def score(
        self,
        ids: Sequence[PointId],  # noqa: ARG002
        old: Vectors,
        side: Vectors | None = None,
    ) -> PriorityScores:
        """Return the predicted log-variance of each projection. Shape (n,)."""
        return self._projector.uncertainty(old, *(() if side is None else (side,)))


class DemandOrdering:
    """Points that queries find most often come first, by a traffic log.

    Args:
        demand: Point id -> how often queries reached it.
        otherwise: Order of points with equally many hits, most of them with none; None leaves it
            to the seed.
        seed: Chooses the order of equals where there is no other preference.

    Raises:
        PluginError: There is no log.
    """

    def __init__(
        self,
        *,
        demand: Mapping[PointId, int] | None = None,
        otherwise: Ordering | None = None,
        seed: int = 0,
    ) -> None:
        if not demand:
            raise PluginError(
                "the demand order needs a log of the points that queries find",
                "give it with --demand FILE, or choose another order",
            )
        self._demand = demand
        self._otherwise = otherwise or RandomOrdering(seed=seed)

    takes_side = True

    def score(
        self, ids: Sequence[PointId], old: Vectors, side: Vectors | None = None
    ) -> PriorityScores:
        """Return the hits of each point, and between equal ones a share below one. Shape (n,)."""
        # A point without an old vector cannot be projected: among points of equal traffic it is
        # first.
        hits = np.array([self._demand.get(point, 0) for point in ids], np.float32)
        other = np.nan_to_num(score_points(self._otherwise, ids, old, side), nan=np.inf)
        # Squashed for each point alone, so that batches change nothing.
        # Below one, so that no preference outweighs one more query.
        below = 0.999 * (0.5 + np.arctan(other) / np.pi)
        return (hits + below).astype(np.float32)


def score_points(
    ordering: Ordering, ids: Sequence[PointId], old: Vectors, side: Vectors | None
) -> PriorityScores:
    """Score points by an order that may or may not take side vectors; shape (n,).

    Args:
        ordering: The order; it takes side vectors where its attribute `takes_side` is true.
        ids: The n points.
        old: Their stored vectors, float32 (n, d_old).
        side: Their side vectors, float32 (n, d_side); None where there are none.
    """
    if getattr(ordering, "takes_side", False):
        return cast("SidedOrdering", ordering).score(ids, old, side)
    return ordering.score(ids, old)


class SidedOrdering(Protocol):
    """An order that takes side vectors too."""

    takes_side: bool

    def score(
        self, ids: Sequence[PointId], old: Vectors, side: Vectors | None = None
    ) -> PriorityScores:
        """Score points; the highest is re-encoded first. Shape (n,)."""
        ...


def rank(ids: Sequence[PointId], scores: PriorityScores) -> npt.NDArray[np.intp]:
    """Sort points by descending score, equal ones by id.

    Args:
        ids: Point ids, n of them.
        scores: Shape (n,). NaN (no old vector, so nothing to project) ranks before every number.

    Returns:
        Positions in `ids`, the first to be re-encoded first, shape (n,).
    """
    priority = np.where(np.isnan(scores), np.inf, scores)
    # lexsort takes its last key first: the priority, then the id, which makes runs repeatable.
    return np.lexsort((np.asarray(ids, dtype=np.str_), -priority))
