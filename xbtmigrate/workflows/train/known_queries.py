"""Queries in both models whose answers are among points with known true new vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbtmigrate.evaluation.queries import Questions
from xbtmigrate.evaluation.retrieval import Relevance, SearchSpace, rank_top_k
from xbtmigrate.projectors import Projector
from xbtmigrate.scoring.calibration import Bank
from xbtmigrate.types import Distance, PointId, Vectors
from xbtmigrate.workflows.points import Points

MAX_POINTS_AS_QUERIES = 1000
POINTS = (
    "neighbours: the point nearest to a point by the new model answers it, since both models can "
    "embed too few queries"
)
"""What serves as queries where points do."""


@dataclass(frozen=True, slots=True)
class KnownQueries:
    """Queries in both models, and the points that answer them.

    Attributes:
        ids: The point that each query was made from, m.
        rows: Row of the point that answers each query, (m,).
        old: The queries in the old model, (m, d_old).
        new: The queries in the new model, (m, d_new).
        bridged: Those projected into the old space, (m, d_old).
    """

    ids: Sequence[PointId]
    rows: npt.NDArray[np.intp]
    old: Vectors
    new: Vectors
    bridged: Vectors

    def part(self, rows: slice) -> KnownQueries:
        """Keep some of the queries."""
        return KnownQueries(
            self.ids[rows], self.rows[rows], self.old[rows], self.new[rows], self.bridged[rows]
        )

    def rest(self, remainder: int) -> KnownQueries:
        """Every other query, starting with the first or the second."""
        return self.part(slice(remainder, None, 2))

    @property
    def relevance(self) -> Relevance:
        """The rows that answer each query."""
        return Relevance.from_rows(self.rows[:, None].tolist())

    def bank(self) -> Bank:
        """Make these queries the bank; a query says nothing of the point it was made from."""
        return Bank(self.ids, self.old, self.new, self.bridged)


def know_questions(
    points: Points, questions: Questions, old: Vectors, new: Vectors, bridge: Projector
) -> KnownQueries:
    """Look up the answers of queries that were made from points, one each.

    Args:
        points: The points that are searched.
        questions: The queries.
        old: Their vectors in the old model, (m, d_old).
        new: Their vectors in the new model, (m, d_new).
        bridge: Projects them into the old space.
    """
    place = {point: row for row, point in enumerate(points.ids)}
    # Made queries ask for one point each, so the first relevant one is the answer.
    ids = [relevant[0] for relevant in questions.relevant]
    rows = np.array([place[point] for point in ids])
    return KnownQueries(ids, rows, old, new, bridge.apply_to_queries(new, questions.wording))


def ask_with_points(
    asking: Points, new: Vectors, bridged: Vectors, searched: Vectors, distance: Distance
) -> KnownQueries:
    """Let points ask for their nearest point by the new model.

    Args:
        asking: Points that are not among those searched, m.
        new: Their true new vectors, (m, d_new).
        bridged: Those projected into the old space, by maps that had not seen them, (m, d_old).
        searched: True new vectors of the points that are searched, (n, d_new).
        distance: Distance of the new space.
    """
    # Only the nearest one: with ten among few points, far ones count as right.
    [near] = rank_top_k(SearchSpace(new, searched, distance).score(), 1).T
    return KnownQueries(asking.ids, near, asking.old, new, bridged)
