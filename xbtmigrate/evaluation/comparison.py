"""Test whether a system is significantly better than keeping the old model, and by how much."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from xbtmigrate.errors import EvaluationError
from xbtmigrate.evaluation.retrieval import METRICS, PerQuery, QueryScores

LEVEL = 0.05
"""Largest p-value of a significant difference."""
RESAMPLES = 2_000
PERMUTATIONS = 10_000
CELLS = 4_000_000  # entries of one block of resampled queries or random signs


# Shown in tables as `against keep`.
class Significance(StrEnum):
    """How a system compares with keeping the old model."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "no difference"
    """The difference is not significant."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided confidence interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """One system compared with keeping the old model, on the same queries; metric name -> figure.

    Attributes:
        means: Mean over the queries.
        ci95: Bootstrap interval of the mean over queries.
        p_value: Two-sided paired permutation test against keep; 1.0 for keep itself.
        compatible: The strict criterion of BCT and XBT: the mean is above keep's.
        gap_closed: (system - keep) / (full - keep); None where full does not beat keep.
        negative_flips: Share of queries answered within the top 10 by keep and no longer by this
            system (MUSCLE).
    """

    means: Mapping[str, float]
    ci95: Mapping[str, Interval]
    p_value: Mapping[str, float]
    compatible: Mapping[str, bool]
    gap_closed: Mapping[str, float | None]
    negative_flips: float

    def beats_keep(self, metric: str, level: float = LEVEL) -> bool:
        """Return whether the mean is above keep's and the difference is significant."""
        return self.compatible[metric] and self.p_value[metric] < level

    def standing(self, metric: str) -> Significance:
        """Return whether the system is significantly better or worse than keep, or neither."""
        if self.p_value[metric] >= LEVEL:
            return Significance.SAME
        return Significance.BETTER if self.compatible[metric] else Significance.WORSE


def compare(
    system: QueryScores,
    keep: QueryScores,
    full: QueryScores,
    *,
    seed: int,
    gaps: Collection[str] = METRICS,
) -> Comparison:
    """Compare a system with keep, and with full as the reachable end.

    Args:
        system: The system, judged on the same queries as the other two.
        keep: Old queries on old vectors.
        full: New queries on new vectors.
        seed: Seed of the resampling; equal seeds give equal figures.
        gaps: Metrics by which full is known to beat keep; by the others there is no gap to close.

    Raises:
        EvaluationError: The three were not judged on the same number of queries.
    """
    table, base = _table(system), _table(keep)
    if not table.shape == base.shape == _table(full).shape:
        raise EvaluationError(
            "systems measured on different queries cannot be compared",
            "measure keep, full and the system with the same query file",
        )
    means, least, most = system.means, keep.means, full.means
    intervals = bootstrap_intervals(table, seed=seed)
    p_values = paired_permutation_test(table, base, seed=seed)
    return Comparison(
        means=means,
        ci95=dict(zip(METRICS, intervals, strict=True)),
        p_value=dict(zip(METRICS, p_values, strict=True)),
        compatible={name: means[name] > least[name] for name in METRICS},
        gap_closed={
            name: gap_closed(means[name], least[name], most[name]) if name in gaps else None
            for name in METRICS
        },
        negative_flips=negative_flips(system, keep),
    )


def gap_closed(value: float, keep: float, full: float) -> float | None:
    """Return (value - keep) / (full - keep); None where full does not beat keep."""
    return None if full <= keep else (value - keep) / (full - keep)


def negative_flips(system: QueryScores, keep: QueryScores, k: int = 10) -> float:
    """Compute the share of queries with a right answer in keep's top k and none in the system's.

    Source: MUSCLE, the negative flip rate of a model update.
    """
    before, after = (scores.values[f"recall@{k}"] > 0 for scores in (keep, system))
    return float((before & ~after).mean())


def bootstrap_intervals(
    table: PerQuery, *, seed: int, level: float = 0.95, resamples: int = RESAMPLES
) -> list[Interval]:
    """Compute percentile bootstrap intervals over queries, one for each column.

    Args:
        table: Values per query and metric, shape (n_q, m).
        seed: Seed of the resampling.
        level: Coverage of the intervals.
        resamples: Number of resampled query sets.
    """
    from scipy import stats

    if len(table) == 1:
        # With one query, every resample is the same; scipy refuses to draw them.
        return [Interval(value, value) for value in table[0].tolist()]
    found = stats.bootstrap(
        (table,),
        np.mean,
        n_resamples=resamples,
        batch=_block_sizes(resamples, table.size)[0],
        confidence_level=level,
        # Percentiles of resampled means stay within [0, 1]; a basic or normal interval may not.
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return [Interval(*ends) for ends in np.stack([found.low, found.high], axis=1).tolist()]


def paired_permutation_test(
    system: PerQuery, keep: PerQuery, *, seed: int, permutations: int = PERMUTATIONS
) -> list[float]:
    """Test paired differences by random sign flips, two-sided; one p-value a column.

    Args:
        system: Values per query and metric, shape (n_q, m).
        keep: The baseline's values on the same queries, shape (n_q, m).
        seed: Seed of the signs.
        permutations: Number of random sign vectors; the least p-value is 1 / (permutations + 1).
    """
    # scipy.stats.permutation_test takes 24 times as long for the same figures.
    rng, difference = np.random.default_rng(seed), system - keep
    # A query with equal results adds zero under either sign.
    difference = difference[difference.any(axis=1)]
    # Sums that differ only by rounding must count as equal.
    observed = np.abs(difference.sum(axis=0)) - 1e-9
    reached = np.zeros(system.shape[1], dtype=np.int64)
    for size in _block_sizes(permutations, len(difference)):
        signs = 1.0 - 2.0 * rng.integers(0, 2, (size, len(difference)), dtype=np.int8)
        reached += (np.abs(signs @ difference) >= observed).sum(axis=0)
    # The observed signs are one of the permutations, so p is never 0 (Phipson & Smyth 2010).
    return [float(p) for p in (reached + 1) / (permutations + 1)]


def _table(scores: QueryScores) -> PerQuery:
    return np.stack([scores.values[name] for name in METRICS], axis=1)


def _block_sizes(total: int, width: int) -> list[int]:
    size = max(1, CELLS // max(1, width))
    return [min(size, total - start) for start in range(0, total, size)]
