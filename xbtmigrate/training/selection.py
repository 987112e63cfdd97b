"""Compare projectors by retrieval on held-out points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field
from typing_extensions import TypedDict

from xbtmigrate.training.pairs import Pairs
from xbtmigrate.types import Distance, Vectors, normalized

BLOCK = 256
"""Queries scored at a time."""


@dataclass(frozen=True, slots=True)
class SelectionTask:
    """Held-out queries with their relevant gallery rows; none of them may be in the pairs.

    Attributes:
        queries_new: Queries in the new model, float32 (q, d_new).
        gallery_old: Stored vectors of the gallery, float32 (m, d_old).
        relevant: For each query the rows of `gallery_old` that answer it, q integer arrays.
        queries_old: Queries in the old model, float32 (q, d_old), where the old model can be run.
        gallery_new: Gallery in the new model, float32 (m, d_new), where it was encoded.
        gallery_side: Side vectors of the gallery, float32 (m, d_side), where there are any.
        queries_side: Side vectors of the queries' texts for a bridge, float32 (q, d_query_side),
            where there are any.
        self_asked: Whether points ask for themselves: then `full` is perfect by definition, and a
            row that answers a query is not to be replaced by its true vector, which is the query.
        pairs: Pairs of the points that answer the queries. No map that is compared has seen them;
            the one that is chosen is solved once more with them.
    """

    queries_new: Vectors
    gallery_old: Vectors
    relevant: Sequence[npt.NDArray[np.integer]]
    queries_old: Vectors | None = None
    gallery_new: Vectors | None = None
    gallery_side: Vectors | None = None
    queries_side: Vectors | None = None
    self_asked: bool = False
    pairs: Sequence[Pairs] = ()


_HeldOut = TypedDict(
    "_HeldOut",
    {
        "held_out_recall@1": Annotated[float, Field(description="Held-out recall at 1, 0 to 1.")],
        "held_out_recall@10": Annotated[float, Field(description="Held-out recall at 10, 0 to 1.")],
        "held_out_mrr": Annotated[float, Field(description="Held-out reciprocal rank, 0 to 1.")],
    },
)


class HeldOut(_HeldOut):
    """Held-out retrieval of one map, as documents show it."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Retrieval figures over queries, each between 0 and 1; compared in this order.

    The held-out points are a small part of the gallery, so the tenth place among them is far down
    among all points. Therefore the reciprocal rank counts first.

    Attributes:
        mrr: Mean reciprocal rank of a query's first relevant row.
        recall_at_10: Mean share of a query's relevant rows among its first ten.
        recall_at_1: Mean share of a query's relevant rows in its first place.
    """

    mrr: float
    recall_at_10: float
    recall_at_1: float

    @property
    def order(self) -> tuple[float, float, float]:
        """Key to compare by; larger is better."""
        return self.mrr, self.recall_at_10, self.recall_at_1

    @classmethod
    def mean(cls, scores: Sequence[Scores]) -> Scores:
        """Average figures over several galleries."""
        orders = np.mean([each.order for each in scores], axis=0)
        return cls(*map(float, orders))

    def as_metrics(self) -> HeldOut:
        """Return the figures under their public names.

        Held-out points are searched for among the points of training: an easier task than that of
        any other figure, and so not to be taken for one.
        """
        return {
            "held_out_recall@1": self.recall_at_1,
            "held_out_recall@10": self.recall_at_10,
            "held_out_mrr": self.mrr,
        }


def measure_retrieval(
    queries: Vectors,
    gallery: Vectors,
    relevant: Sequence[npt.NDArray[np.integer]],
    distance: Distance,
) -> Scores:
    """Rank a gallery for every query, exactly.

    Rows that tie share the middle of their places: duplicates of a relevant row neither help nor
    hurt, and a projector that maps everything to one point scores nothing.

    Args:
        queries: Float32 (q, d).
        gallery: Float32 (m, d).
        relevant: Rows of the gallery that answer each query, q arrays.
        distance: Distance of the space both are in.
    """
    if distance is Distance.COSINE:
        queries, gallery = normalized(queries), normalized(gallery)
    ranks = [
        _ranks(_nearness(queries[start : start + BLOCK], gallery, distance), block)
        for start in range(0, len(queries), BLOCK)
        if (block := relevant[start : start + BLOCK])
    ]
    rank = np.concatenate(ranks)
    counts = np.array([len(rows) for rows in relevant])
    # `rank` holds one entry for each relevant row, query by query; `first` is where each query
    # begins.
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    recall_10, recall_1 = (np.add.reduceat(rank <= k, first) / counts for k in (10, 1))
    reciprocal = 1 / np.minimum.reduceat(rank, first)
    return Scores(float(reciprocal.mean()), float(recall_10.mean()), float(recall_1.mean()))


def _nearness(queries: Vectors, gallery: Vectors, distance: Distance) -> Vectors:
    """Score (q, d) against (m, d): higher is nearer; shape (q, m)."""
    if distance is Distance.MANHATTAN:
        # Query by query: all at once takes an array of shape (q, m, d).
        return np.stack([-np.abs(gallery - query).sum(axis=1) for query in queries])
    dots: Vectors = queries @ gallery.T
    if distance is Distance.EUCLID:
        # q.g - |g|^2 / 2 ranks like -|q - g|: |q|^2 is the same for the whole gallery.
        dots -= np.einsum("md,md->m", gallery, gallery) / 2
    return dots


def _ranks(near: Vectors, relevant: Sequence[npt.NDArray[np.integer]]) -> npt.NDArray[np.float64]:
    """Rank of each relevant row from 1, other relevant rows aside, ties at the middle.

    Args:
        near: Nearness of the gallery, shape (q, m); overwritten.
        relevant: Relevant rows, q arrays.

    Returns:
        Query by query, one rank for each relevant row.
    """
    query = np.repeat(np.arange(len(relevant)), [len(rows) for rows in relevant])
    rows = np.concatenate(relevant)
    values = near[query, rows][:, None]
    # A right answer must not push another one down.
    near[query, rows] = -np.inf
    others = near[query]
    ahead, tied = (others > values).sum(axis=1), (others == values).sum(axis=1)
    return np.asarray(1 + ahead + tied / 2)
