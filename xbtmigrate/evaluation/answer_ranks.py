"""Rank the right answers of queries, in one space or in a mixed gallery at every share re-encoded.

Metrics need the places of the answers alone, so nothing is sorted: the rows before an answer are
counted. Where a point's score depends on its own state only, both states are scored once, and the
rows that can come before an answer are sorted into the steps of every order at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbtmigrate.errors import EvaluationError
from xbtmigrate.evaluation.retrieval import (
    DEPTH,
    QueryScores,
    Relevance,
    Rows,
    SearchSpace,
    chunk_queries,
    judge_places,
)
from xbtmigrate.types import Scores

GROUPS = 256
"""Groups of rows whose best scores show how high a row must score to be listed."""

Floats = npt.NDArray[np.float32]


def evaluate(space: SearchSpace, relevance: Relevance) -> QueryScores:
    """Search one space exactly with every query, and compute the metrics.

    Raises:
        EvaluationError: The numbers of queries differ.
    """
    if relevance.query_count != len(space.query):
        raise EvaluationError(
            f"{len(space.query)} query vectors but relevance for {relevance.query_count} queries",
            "give one list of relevant rows for each query vector, in the same order",
        )
    chunks = chunk_queries(len(space.query), len(space.gallery))
    ranks = [rank_answers(space.score(chunk), relevance.part(chunk)) for chunk in chunks]
    return judge_ranks(np.concatenate(ranks), relevance)


def judge_ranks(rank: Rows, relevance: Relevance) -> QueryScores:
    """Compute the metrics from the rank of each right answer.

    Args:
        rank: From 1, shape (pairs,); one beyond DEPTH counts as missed.
        relevance: The answers.
    """
    order = np.lexsort((rank, relevance.query))
    listed = order[rank[order] <= DEPTH]
    return judge_places(relevance.query[listed], rank[listed], relevance.counts)


def rank_answers(scores: Scores, relevance: Relevance) -> Rows:
    """Rank each right answer; equal scores go by row number.

    Args:
        scores: Queries against the gallery, (m, n), no NaN.
        relevance: The answers.

    Returns:
        Ranks from 1, (pairs,); one beyond DEPTH may be any such number.
    """
    rank = np.empty(len(relevance.row), np.intp)
    own = scores[relevance.query, relevance.row]
    rivals = _Rivals.of(scores, _least(scores, own, relevance))
    for queries, answers in _one_by_one(relevance):
        before, _ = rivals.before(queries, own[answers], relevance.row[answers])
        rank[answers] = 1 + np.bincount(before, minlength=len(scores))[queries]
    return rank


def rank_in_steps(
    waiting: Scores, encoded: Scores, relevance: Relevance, *, turns: Sequence[Rows], steps: int
) -> Rows:
    """Rank each right answer while more and more rows are re-encoded.

    Args:
        waiting: Scores of the rows that are not re-encoded, (m, n), no NaN.
        encoded: Scores of those that are, (m, n), no NaN.
        relevance: The answers.
        turns: For each order, the step from which each row is re-encoded, (n,); `steps` for never.
        steps: Number of steps.

    Returns:
        Ranks from 1, (orders, steps, pairs); one beyond DEPTH may be any such number.
    """
    ranks = np.empty((len(turns), steps, len(relevance.row)), np.intp)
    states = [waiting, encoded]
    owns = [scores[relevance.query, relevance.row] for scores in states]
    least = _least(np.minimum(*states), np.minimum(*owns), relevance)
    rivals = [_Rivals.of(scores, least) for scores in states]
    for queries, answers in _one_by_one(relevance):
        rows = relevance.row[answers]
        # The rows in each state that come before an answer in each state.
        before = [[each.before(queries, own[answers], rows) for each in rivals] for own in owns]
        for rank, turn in zip(ranks, turns, strict=True):
            found = [_count(each, turn, steps, len(waiting)) for each in before]
            reached = turn[rows] <= np.arange(steps)[:, None]
            rank[:, answers] = 1 + np.where(reached, found[1][:, queries], found[0][:, queries])
    return ranks


@dataclass(frozen=True, slots=True)
class _Rivals:
    """Entries of a block of scores that may come before an answer of their query."""

    query: Rows
    row: Rows
    score: Floats
    queries: int

    @classmethod
    def of(cls, scores: Scores, least: Floats) -> _Rivals:
        """Find the entries of (m, n) with at least a score for each query, (m,)."""
        entries = np.flatnonzero(scores >= least[:, None])
        query, row = np.divmod(entries, scores.shape[1])
        return cls(query, row, scores.reshape(-1)[entries], len(scores))

    def before(self, queries: Rows, score: Floats, row: Rows) -> tuple[Rows, Rows]:
        """Return query and row of the entries that come before an answer of each given query."""
        # Nothing comes before infinity: queries without such an answer.
        bar, at = np.full(self.queries, np.inf, np.float32), np.zeros(self.queries, np.intp)
        bar[queries], at[queries] = score, row
        own = bar[self.query]
        ahead = (self.score > own) | ((self.score == own) & (self.row < at[self.query]))
        return self.query[ahead], self.row[ahead]


def _count(before: Sequence[tuple[Rows, Rows]], turn: Rows, steps: int, queries: int) -> Rows:
    """Count the entries that are in their state at each step, (steps, queries).

    Args:
        before: Query and row of entries whose rows wait, and of entries whose rows are re-encoded.
        turn: The step from which each row is re-encoded, (n,).
        steps: Number of steps.
        queries: Number of queries.
    """
    waiting, encoded = (
        np.bincount(turn[row] * queries + query, minlength=(steps + 1) * queries)
        .reshape(steps + 1, queries)
        .cumsum(axis=0)
        for query, row in before
    )
    return np.asarray(waiting[-1] - waiting[:-1] + encoded[:-1], np.intp)


def _one_by_one(relevance: Relevance) -> Iterator[tuple[Rows, Rows]]:
    """Yield the first answer of each query, then the second ones, as queries and pairs."""
    counts = relevance.counts
    starts = np.cumsum(counts) - counts
    for number in range(counts.max()):
        queries = np.flatnonzero(counts > number)
        yield queries, starts[queries] + number


def _least(scores: Scores, own: Floats, relevance: Relevance) -> Floats:
    """Return for each query the score below which no entry can move a listed answer, (m,)."""
    starts = np.searchsorted(relevance.query, np.arange(relevance.query_count))
    least = np.minimum.reduceat(own, starts)
    queries, rows = scores.shape
    groups = min(GROUPS, rows)
    if groups > DEPTH:
        # With DEPTH groups whose best reaches a score, DEPTH rows do: a row below is not listed.
        best = scores[:, : rows // groups * groups].reshape(queries, -1, groups).max(axis=1)
        least = np.maximum(least, np.partition(best, -DEPTH, axis=1)[:, -DEPTH])
    return least
