"""Compute the backfilling curve: quality against the share of re-encoded points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from xbtmigrate.errors import EvaluationError
from xbtmigrate.evaluation.comparison import Interval, bootstrap_intervals
from xbtmigrate.evaluation.mixed_gallery import Centred, Serving, mark_encoded
from xbtmigrate.evaluation.retrieval import (
    DEPTH,
    QueryScores,
    Relevance,
    Rows,
    SearchSpace,
    chunk_queries,
    judge,
    rank_top_k,
)
from xbtmigrate.types import Channel

FRACTIONS = tuple(step / 10 for step in range(11))
SHARES_OF_FULL = (0.90, 0.95, 0.98)


@dataclass(frozen=True, slots=True)
class Curve:
    """M(beta) of one order and one serving (FastFill, section 3).

    Attributes:
        ordering: Which point is re-encoded next.
        serving: How the mixed gallery is searched.
        fractions: Shares of re-encoded points, ascending and equally spaced.
        points: Metrics per query at each fraction.
    """

    ordering: str
    serving: str
    fractions: tuple[float, ...]
    points: tuple[QueryScores, ...]

    def values(self, metric: str = "recall@10") -> list[float]:
        """Return the mean over the queries at each fraction."""
        return [point.means[metric] for point in self.points]

    def auc(self, metric: str = "recall@10") -> float:
        """Return the plain mean of the values over the fractions, both ends included."""
        return float(np.mean(self.values(metric)))

    def auc_interval(self, metric: str = "recall@10", *, seed: int) -> Interval:
        """Bootstrap interval of `auc` over the queries, 95 %."""
        table = np.mean([point.values[metric] for point in self.points], axis=0)[:, None]
        return bootstrap_intervals(table, seed=seed)[0]

    def smallest_fraction(self, level: float, metric: str = "recall@10") -> float | None:
        """Find the first fraction where the curve reaches a level, by linear interpolation.

        Args:
            level: A value of the metric, such as 0.95 times that of full.
            metric: Which metric.

        Returns:
            The fraction, or None if the curve stays below the level.
        """
        values = self.values(metric)
        reached = np.flatnonzero(np.asarray(values) >= level)
        if not len(reached):
            return None
        at = int(reached[0])
        if at == 0:
            return self.fractions[0]
        before, after = values[at - 1], values[at]
        start, stop = self.fractions[at - 1], self.fractions[at]
        # values[at - 1] < level <= values[at], so the divisor is positive.
        return start + (stop - start) * (level - before) / (after - before)

    def fractions_to_full(
        self, full: QueryScores, metric: str = "recall@10"
    ) -> dict[float, float | None]:
        """Find the fractions that reach 90, 95 and 98 % of full; share of full -> fraction."""
        goal = full.means[metric]
        return {share: self.smallest_fraction(share * goal, metric) for share in SHARES_OF_FULL}

    def crossover_interval(
        self, keep: QueryScores, metric: str = "recall@10", *, seed: int, draws: int = 1000
    ) -> tuple[float | None, float | None]:
        """Bootstrap the fraction that reaches keep over the queries, 95 %.

        Args:
            keep: Scores of the old model on the same queries.
            metric: Which metric.
            seed: Seed of the draws.
            draws: How often the queries are drawn again.

        Returns:
            Low and high end; None where the curve stays below keep in that many of the draws.
        """
        # Resampling queries means drawing their counts, so all draws are one matrix product.
        gains = np.stack([p.values[metric] - keep.values[metric] for p in self.points], axis=1)
        count, steps = gains.shape
        drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), draws)
        means = drawn @ gains / count
        reached = np.where(means >= 0, np.arange(steps), steps).min(axis=1)
        # Draws that never reach keep sort last; infinity cannot be interpolated, so an order
        # statistic is taken.
        first = np.sort([*self.fractions, np.inf])[np.sort(reached)]
        ends = (float(first[round(share * (draws - 1))]) for share in (0.025, 0.975))
        low, high = (None if end == np.inf else end for end in ends)
        return low, high

    def no_regret(self, keep: QueryScores, metric: str = "recall@10") -> bool:
        """Return whether the curve is nowhere below keep (Seo et al., WACV 2025)."""
        return min(self.values(metric)) >= keep.means[metric]


def measure_curves(
    spaces: Mapping[Channel, SearchSpace],
    relevance: Relevance,
    *,
    orders: Mapping[str, Rows],
    servings: Sequence[Serving | Centred],
    fractions: Sequence[float] = FRACTIONS,
) -> list[Curve]:
    """Measure every order with every serving; the channels are scored once per chunk of queries.

    Args:
        spaces: The channels that the servings need; all over the same queries and gallery rows.
        relevance: The right rows of each query.
        orders: Name -> every gallery row once, first to be re-encoded first, shape (n,).
        servings: Ways to search the mixed gallery.
        fractions: Shares of re-encoded points, ascending and equally spaced.

    Returns:
        One curve for each order and serving, orders outside.

    Raises:
        EvaluationError: Sizes differ, or the fractions are not ascending and equally spaced.
    """
    _check(spaces, relevance, orders, fractions)
    masks = {name: [mark_encoded(order, f) for f in fractions] for name, order in orders.items()}
    parts = {name: [[list[QueryScores]() for _ in fractions] for _ in servings] for name in orders}
    needed = frozenset[Channel]().union(*(serving.channels for serving in servings))
    points = len(next(iter(orders.values())))
    # Chunk by chunk: the scores of all queries would not fit in memory, and every order and serving
    # needs the same ones.
    for chunk in chunk_queries(relevance.query_count, points):
        blocks = {channel: spaces[channel].score(chunk) for channel in needed}
        answers = relevance.part(chunk)
        for (place, serving), (step, share) in product(enumerate(servings), enumerate(fractions)):
            here = serving.at(chunk, share) if isinstance(serving, Centred) else serving
            for name, found in parts.items():
                ranked = rank_top_k(here.score(blocks, masks[name][step]), DEPTH)
                found[place][step].append(judge(ranked, answers))
    return [
        Curve(name, serving.name, tuple(fractions), tuple(map(QueryScores.join, points)))
        for name, of_order in parts.items()
        for serving, points in zip(servings, of_order, strict=True)
    ]


def _check(
    spaces: Mapping[Channel, SearchSpace],
    relevance: Relevance,
    orders: Mapping[str, Rows],
    fractions: Sequence[float],
) -> None:
    sizes = {(len(space.query), len(space.gallery)) for space in spaces.values()}
    sizes |= {(relevance.query_count, len(order)) for order in orders.values()}
    if len(sizes) != 1:
        raise EvaluationError(
            f"channels, relevance and orders differ in (queries, points): {sorted(sizes)}",
            "score every channel over the same queries and the same gallery rows",
        )
    if any(len(np.unique(order)) != len(order) for order in orders.values()):
        raise EvaluationError(
            "an order names a gallery row twice", "an order holds every gallery row exactly once"
        )
    # `auc` is the plain mean of the values, which is an area only over equal steps.
    steps = np.diff(fractions)
    if len(steps) and not (steps.min() > 0 and np.allclose(steps, steps[0])):
        raise EvaluationError(
            f"fractions {list(fractions)} are not ascending and equally spaced",
            "a curve and its mean need equal steps, such as 0, 0.1 ... 1",
        )
