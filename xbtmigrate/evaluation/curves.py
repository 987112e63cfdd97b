"""Compute the backfilling curve: quality against the share of re-encoded points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from xbtmigrate.errors import EvaluationError
from xbtmigrate.evaluation.answer_ranks import judge_ranks, rank_answers, rank_in_steps
from xbtmigrate.evaluation.comparison import Interval, bootstrap_intervals
from xbtmigrate.evaluation.mixed_gallery import (
    Blocks,
    Centred,
    Serving,
    find_turns,
)
from xbtmigrate.evaluation.retrieval import (
    QueryScores,
    Relevance,
    Rows,
    SearchSpace,
    chunk_queries,
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
        means = _draw_counts(count, draws, seed).astype(np.float64) @ gains / count
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


# Every curve over the same queries is of the same draws.
@lru_cache(maxsize=2)
def _draw_counts(count: int, draws: int, seed: int) -> npt.NDArray[np.uint8]:
    """Draw n queries again and again, and count how often each comes, (draws, n)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(count, np.full(count, 1 / count), draws).astype(np.uint8)


def measure_curves(
    spaces: Mapping[Channel, SearchSpace],
    relevance: Relevance,
    *,
    orders: Mapping[str, Rows],
    servings: Sequence[Serving | Centred],
    fractions: Sequence[float] = FRACTIONS,
) -> list[Curve]:
    """Measure every order with every serving; see `search_gallery`."""
    needed = frozenset[Channel]().union(*(serving.channels for serving in servings))
    _, curves = search_gallery(
        {channel: spaces[channel] for channel in needed},
        relevance,
        orders=orders,
        servings=servings,
        fractions=fractions,
    )
    return curves


def search_gallery(
    spaces: Mapping[Channel, SearchSpace],
    relevance: Relevance,
    *,
    orders: Mapping[str, Rows],
    servings: Sequence[Serving | Centred],
    fractions: Sequence[float] = FRACTIONS,
) -> tuple[dict[Channel, QueryScores], list[Curve]]:
    """Search every space once, and measure it alone and in every serving with every order.

    Args:
        spaces: The channels, all over the same queries and gallery rows.
        relevance: The right rows of each query.
        orders: Name -> every gallery row once, first to be re-encoded first, shape (n,).
        servings: Ways to search the mixed gallery.
        fractions: Shares of re-encoded points, ascending and equally spaced.

    Returns:
        The figures of each space, and one curve for each order and serving, orders outside.

    Raises:
        EvaluationError: Sizes differ, or the fractions are not ascending and equally spaced.
    """
    _check(spaces, relevance, orders, fractions)
    alone: dict[Channel, list[Rows]] = {channel: [] for channel in spaces}
    mixed: list[list[Rows]] = [[] for _ in servings]
    turns = [find_turns(order, fractions) for order in orders.values()]
    points = len(next(iter(spaces.values())).gallery)
    # Chunk by chunk: the scores of all queries would not fit in memory, and every order and serving
    # needs the same ones.
    for chunk in chunk_queries(relevance.query_count, points):
        blocks = {channel: space.score(chunk) for channel, space in spaces.items()}
        answers = relevance.part(chunk)
        for channel, scores in blocks.items():
            alone[channel].append(rank_answers(scores, answers))
        for parts, serving in zip(mixed, servings, strict=True):
            ranks = np.empty((len(turns), len(fractions), len(answers.row)), np.intp)
            for view, steps in _views(serving, chunk, fractions):
                ranks[:, steps] = _rank_mixed(view, blocks, answers, turns, steps)
            parts.append(ranks)
    cells = {c: judge_ranks(np.concatenate(parts), relevance) for c, parts in alone.items()}
    whole = [np.concatenate(parts, axis=2) for parts in mixed]
    return cells, [
        Curve(
            name,
            serving.name,
            tuple(fractions),
            tuple(judge_ranks(each, relevance) for each in ranks[place]),
        )
        for place, name in enumerate(orders)
        for serving, ranks in zip(servings, whole, strict=True)
    ]


def _views(
    serving: Serving | Centred, chunk: slice, fractions: Sequence[float]
) -> list[tuple[Serving, Rows]]:
    """Return what scores a chunk of queries, and the steps that it is for."""
    if isinstance(serving, Centred):
        return serving.views(chunk, fractions)
    return [(serving, np.arange(len(fractions)))]


def _rank_mixed(
    serving: Serving, blocks: Blocks, answers: Relevance, turns: Sequence[Rows], steps: Rows
) -> Rows:
    """Rank the answers in every order at some steps, (orders, steps, pairs)."""
    if not serving.by_state:
        return np.array(
            [
                [rank_answers(serving.score(blocks, turn <= step), answers) for step in steps]
                for turn in turns
            ]
        )
    count = next(iter(blocks.values())).shape[1]
    waiting, encoded = (serving.score(blocks, np.full(count, state)) for state in (False, True))
    # Numbered among these steps.
    turns = [np.searchsorted(steps, turn) for turn in turns]
    return rank_in_steps(waiting, encoded, answers, turns=turns, steps=len(steps))


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
