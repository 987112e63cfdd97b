"""Search exactly over blocks of scores, and compute the retrieval metrics of each query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
import numpy.typing as npt

from xbtmigrate.errors import EvaluationError
from xbtmigrate.types import Distance, Scores, Vectors, normalized

Rows: TypeAlias = npt.NDArray[np.intp]
PerQuery: TypeAlias = npt.NDArray[np.float64]

DEPTH = 100
"""Length of the ranked list that every metric is computed from."""

Metric: TypeAlias = Literal["recall@1", "recall@5", "recall@10", "mrr@10", "ndcg@10", "map@100"]
METRICS: tuple[Metric, ...] = get_args(Metric)
"""Names of the metrics, in the order of every table. map@100 is average precision at 100."""

BLOCK_BYTES = 8 << 20
"""Memory that one block of scores (queries of a chunk x gallery) may take; more is slower."""


@dataclass(frozen=True, slots=True)
class Relevance:
    """Pairs of queries and their relevant gallery rows, sorted by query.

    Attributes:
        query_count: Number of queries; each has at least one relevant row.
        query: Query number of each pair, ascending, shape (pairs,).
        row: Gallery row of each pair, shape (pairs,).
    """

    query_count: int
    query: Rows
    row: Rows

    @classmethod
    def from_rows(cls, relevant: Sequence[Sequence[int]]) -> Relevance:
        """Build from one collection of gallery rows per query; repeated rows count once.

        Raises:
            EvaluationError: There is no query, or a query has no relevant row.
        """
        rows = [np.unique(np.asarray(one, dtype=np.intp)) for one in relevant]
        empty = [number for number, one in enumerate(rows) if not len(one)]
        if empty or not rows:
            raise EvaluationError(
                f"{len(empty)} of {len(rows)} queries have no relevant row in the gallery",
                "leave out the queries whose relevant points are not in the collection",
            )
        return cls(
            query_count=len(rows),
            query=np.repeat(np.arange(len(rows)), [len(one) for one in rows]),
            row=np.concatenate(rows),
        )

    @property
    def counts(self) -> Rows:
        """Number of relevant rows of each query, shape (n_q,)."""
        return np.bincount(self.query, minlength=self.query_count)

    def part(self, queries: slice) -> Relevance:
        """Keep the queries of a slice, numbered from 0 again."""
        start, stop, _ = queries.indices(self.query_count)
        # Pairs are sorted by query, so those of a slice are one stretch.
        first, last = np.searchsorted(self.query, [start, stop])
        return Relevance(stop - start, self.query[first:last] - start, self.row[first:last])


@dataclass(frozen=True, slots=True)
class QueryScores:
    """Metrics of one system, query by query.

    Attributes:
        values: Metric name -> one value per query, shape (n_q,), in [0, 1].
    """

    values: Mapping[str, PerQuery]

    @property
    def means(self) -> dict[str, float]:
        """Mean over the queries of each metric."""
        return {name: float(values.mean()) for name, values in self.values.items()}

    @classmethod
    def join(cls, parts: Sequence[QueryScores]) -> QueryScores:
        """Concatenate the scores of consecutive chunks of queries."""
        names = parts[0].values
        return cls({name: np.concatenate([part.values[name] for part in parts]) for name in names})


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """Queries and gallery vectors that may be compared with each other.

    Attributes:
        query: Query vectors, shape (n_q, d).
        gallery: Gallery vectors, shape (n, d).
        distance: How the two are compared; cosine vectors are normalised here.
    """

    query: Vectors
    gallery: Vectors
    distance: Distance = Distance.COSINE

    def __post_init__(self) -> None:
        if self.query.shape[1:] != self.gallery.shape[1:]:
            raise EvaluationError(
                f"queries of shape {self.query.shape} cannot be compared "
                f"with a gallery of shape {self.gallery.shape}",
                "check that both come from the same model or went through the right projector",
            )
        if self.distance is Distance.COSINE:
            # Normalised once, so that a cosine is a dot product in every chunk.
            object.__setattr__(self, "query", normalized(self.query))
            object.__setattr__(self, "gallery", normalized(self.gallery))

    def score(self, queries: slice = slice(None)) -> Scores:
        """Score a slice of the queries against the whole gallery, higher is nearer: (m, n)."""
        query, gallery = self.query[queries], self.gallery
        if self.distance is Distance.MANHATTAN:
            # Query by query: all at once takes an array of shape (m, n, d).
            return np.stack([-np.abs(gallery - one).sum(axis=1) for one in query])
        product = query @ gallery.T
        if self.distance is Distance.EUCLID:
            squares = (query**2).sum(axis=1)[:, None] + (gallery**2).sum(axis=1) - 2 * product
            # Rounding can leave the square of a small distance below zero.
            return cast("Scores", -np.sqrt(np.maximum(squares, 0)))
        return product


def chunk_queries(query_count: int, gallery_count: int) -> Iterator[slice]:
    """Cut the queries so that one block of scores stays within BLOCK_BYTES."""
    # Scores are float32, four bytes each.
    size = max(1, BLOCK_BYTES // (4 * max(1, gallery_count)))
    for start in range(0, query_count, size):
        yield slice(start, min(start + size, query_count))


def rank_top_k(scores: Scores, k: int) -> Rows:
    """Rank the columns of each row exactly, best first; equal scores go by column number.

    Args:
        scores: Shape (m, n), no NaN.
        k: Length of the lists; cut to n.

    Returns:
        Column numbers, shape (m, min(k, n)).
    """
    k = min(k, scores.shape[1])
    # Everything that ties with the k-th score is kept until the sort: argpartition would
    # choose between ties arbitrarily.
    threshold = np.partition(scores, -k, axis=1)[:, -k]
    query, column = np.nonzero(scores >= threshold[:, None])
    order = np.lexsort((column, -scores[query, column], query))
    starts = np.searchsorted(query, np.arange(len(scores)))
    return cast("Rows", column[order[starts[:, None] + np.arange(k)]])


def judge(ranked: Rows, relevance: Relevance) -> QueryScores:
    """Compute the metrics from ranked lists.

    Args:
        ranked: Gallery rows, best first, shape (n_q, k); metrics deeper than k see the list end.
        relevance: The right answers; binary.
    """
    return judge_hits(mark_right_places(ranked, relevance)[:, :DEPTH], relevance.counts)


def mark_right_places(ranked: Rows, relevance: Relevance) -> npt.NDArray[np.bool_]:
    """Mark the places of ranked lists that hold a relevant row, shape (n_q, k)."""
    # Query and row become one number, so that a single membership test marks every place.
    width = 1 + max(int(ranked.max(initial=0)), int(relevance.row.max(initial=0)))
    listed = np.arange(relevance.query_count)[:, None] * width + ranked
    return np.isin(listed, relevance.query * width + relevance.row)


def judge_hits(hits: npt.NDArray[np.bool_], counts: Rows) -> QueryScores:
    """Compute the metrics from which places of the ranked lists hold a relevant row.

    Args:
        hits: Shape (n_q, k), best place first.
        counts: Number of relevant rows of each query, shape (n_q,).
    """
    query, place = np.nonzero(hits)
    return judge_places(query, place + 1, counts)


def judge_places(query: Rows, rank: Rows, counts: Rows) -> QueryScores:
    """Compute the metrics from the relevant rows that are listed.

    Args:
        query: Query of each listed row, ascending.
        rank: Its place in the list, from 1, ascending within a query.
        counts: Number of relevant rows of each query, listed or not, shape (n_q,).
    """
    # DCG (Järvelin & Kekäläinen 2002): a hit at rank r counts 1 / log2(r + 1).
    ideal = np.cumsum(1 / np.log2(np.arange(2, 12)))[np.minimum(counts, 10) - 1]
    # How many relevant rows are listed up to here; the first one is the first of its query.
    found = np.arange(1, len(query) + 1) - np.searchsorted(query, query)

    def total(values: npt.NDArray[Any]) -> PerQuery:
        return np.asarray(np.bincount(query, values, len(counts)), np.float64)

    return QueryScores(
        {f"recall@{k}": total(rank <= k) / counts for k in (1, 5, 10)}
        | {
            "mrr@10": total(((found == 1) & (rank <= 10)) / rank),
            "ndcg@10": total((rank <= 10) / np.log2(rank + 1)) / ideal,
            # Average precision: the precision at each hit, over all right rows, listed or not.
            "map@100": total(found / rank) / counts,
        }
    )
