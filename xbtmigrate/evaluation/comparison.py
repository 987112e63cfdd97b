"""Test whether a system is significantly better than keeping the old model, and by how much."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np
import numpy.typing as npt

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
    # Percentiles of resampled means stay within [0, 1]; a basic or normal interval may not.
    ends = [50 * (1 - level), 50 * (1 + level)]
    drawn = _draw_queries(len(table), resamples, seed)
    means = [drawn[part].astype(np.float64) @ table for part in _blocks(resamples, len(table))]
    found = np.percentile(np.concatenate(means) / len(table), ends, axis=0)
    return [Interval(*each) for each in found.T.tolist()]


# Every interval over the same queries is of the same draws.
@lru_cache(maxsize=2)
def _draw_queries(count: int, resamples: int, seed: int) -> npt.NDArray[np.uint8]:
    """Count how often each query is drawn in each resample, (resamples, count)."""
    rng, drawn = np.random.default_rng(seed), np.empty((resamples, count), np.uint8)
    for part in _blocks(resamples, count):
        rows = np.arange(part.stop - part.start)[:, None] * count
        chosen = rows + rng.integers(0, count, (len(rows), count))
        drawn[part] = np.bincount(chosen.reshape(-1), minlength=chosen.size).reshape(chosen.shape)
    return drawn


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
    total = difference.sum(axis=0)
    observed = np.abs(total) - 1e-9
    reached = np.zeros(system.shape[1], dtype=np.int64)
    for part in _blocks(permutations, len(difference)):
        flipped = rng.integers(0, 2, (part.stop - part.start, len(difference)), dtype=np.int8)
        sums = total - 2 * (flipped.astype(np.float64) @ difference)
        reached += (np.abs(sums) >= observed).sum(axis=0)
    # The observed signs are one of the permutations, so p is never 0 (Phipson & Smyth 2010).
    return [float(p) for p in (reached + 1) / (permutations + 1)]


def _table(scores: QueryScores) -> PerQuery:
    return np.stack([scores.values[name] for name in METRICS], axis=1)


def _blocks(total: int, width: int) -> list[slice]:
    size = max(1, CELLS // max(1, width))
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]
