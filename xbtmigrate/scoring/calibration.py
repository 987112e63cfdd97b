"""Everything that calibrated search needs: weights, query bank, slerp weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from xbtmigrate.scoring.fusion import Fusion, PerPoint, hubness
from xbtmigrate.types import Channel, PointId, Scores, Vectors

Scored: TypeAlias = Callable[[slice], Scores]

BLOCK_POINTS = 2000


@dataclass(frozen=True, slots=True)
class Bank:
    """Queries against which hubness is measured; each has one known answer.

    Attributes:
        ids: The points that answer them, m.
        old: Their vectors in the old model, float32 (m, d_old).
        new: Their vectors in the new model, float32 (m, d_new).
        bridged: Those projected into the old space, float32 (m, d_old).
    """

    ids: Sequence[PointId]
    old: Vectors
    new: Vectors
    bridged: Vectors

    def first(self, count: int) -> Bank:
        """Keep the first queries."""
        some = slice(count)
        return Bank(self.ids[some], self.old[some], self.new[some], self.bridged[some])

    def of(self, channel: Channel) -> Vectors:
        """Return the vectors of the queries in the space of a channel's gallery."""
        # A projected vector is in the new space, so it meets the new queries, like a true one.
        return self.old if channel is Channel.OLD else self.new


@dataclass(frozen=True, slots=True)
class Calibration:
    """Fitted parameters for searching a mixed gallery.

    Attributes:
        fusion: Calibrated weights of the channels, for queries in both models.
        bridged: The same with the bridged query in the place of the old one, so that the old model
            is not needed; its weights have no part of hubness, which gained little.
        blend: Share of the bridged query in the slerp blend.
        bank: Queries for the hubness.
        projectors: Digests of the bridge and the forward projector it was fitted with.
        tuned: Numbers that measured servings chose on the calibration queries, by serving.
    """

    fusion: Fusion
    bridged: Fusion
    blend: float
    bank: Bank
    projectors: tuple[str, str]
    tuned: Mapping[str, float] = field(default_factory=dict)


def measure_hubness(
    bank: Bank, ids: Sequence[PointId], scored: Mapping[Channel, Scored]
) -> dict[Channel, PerPoint]:
    """Measure the hubness of n points in each channel.

    Args:
        bank: The queries.
        ids: Ids of the points.
        scored: For each channel a function from a slice of points to their scores with the bank's
            queries, shape (points, m).

    Returns:
        Shape (n,) for each channel. A query is left out for the point that answers it.
    """
    asked, members = np.asarray(bank.ids, np.str_), np.asarray(ids, np.str_)
    found = {}
    for channel, score in scored.items():
        parts = []
        # In blocks: the scores of all points with the bank at once would not fit a large
        # collection.
        for start in range(0, len(members), BLOCK_POINTS):
            rows = slice(start, min(start + BLOCK_POINTS, len(members)))
            parts.append(hubness(score(rows), members[rows, None] == asked[None, :]))
        found[channel] = np.concatenate(parts)
    return found
