"""Learn from queries with known answers how much re-encoding a point improves retrieval.

Old and true new vector of every point are known here, so the benefit is measured: the change of
a smooth recall@10 when the point alone passes from waiting to re-encoded, averaged over random
mixtures of the others. Ranks are scaled up from the sample to the collection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt

from xbtmigrate.ordering.benefit import Estimate
from xbtmigrate.ordering.trees import Linear, Trees
from xbtmigrate.types import Scores

Floats: TypeAlias = npt.NDArray[np.float32]
States: TypeAlias = tuple[Scores, Scores]

MIXTURES = (0.125, 0.375, 0.625, 0.875)
"""Shares of re-encoded points over which the benefit is averaged."""
BLOCK = 500
RIDGE = 1e-2
TREES = {"n_estimators": 150, "max_depth": 4, "learning_rate": 0.05, "subsample": 0.7}
# Benefits are noisy: a leaf must average a hundredth of the points.
LEAF_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class MeasuredBenefit:
    """Benefit of re-encoding points of a sample, in queries per collection-wide set of queries.

    Attributes:
        own: For the query that the point answers, (q,).
        others: For queries that other points answer, (n,).
    """

    own: Floats
    others: Floats


def measure_benefit(
    states: Callable[[slice], States], rows: npt.NDArray[np.intp], *, scale: float, seed: int
) -> MeasuredBenefit:
    """Measure what re-encoding each point changes.

    Args:
        states: From a slice of queries to their scores with all n points waiting and with all of
            them re-encoded, each (m, n).
        rows: The point that answers each query, (q,).
        scale: Points of the collection for each point of the sample.
        seed: Seed of the mixtures.
    """
    own = np.zeros(len(rows))
    others = np.zeros(0)
    for number, part in enumerate(_slices(len(rows))):
        waiting, encoded = states(part)
        others = others if len(others) else np.zeros(waiting.shape[1])
        # Seeded for each block, so that a block's mixtures do not depend on those before it.
        rng = np.random.default_rng([seed, number])
        found = _of_block(waiting, encoded, rows[part], scale, rng)
        own[part] += found[0]
        others += found[1]
    # As if every point of the sample had one query, the unit that `own` is in.
    others *= waiting.shape[1] / len(rows)
    return MeasuredBenefit(own.astype(np.float32), others.astype(np.float32))


def fit_estimates(
    features: Floats, rows: npt.NDArray[np.intp], measured: MeasuredBenefit, *, seed: int
) -> tuple[Estimate, Estimate | None]:
    """Fit the weighted sum, and the trees where scikit-learn is installed.

    Args:
        features: Features of the points, (n, f).
        rows: The point each value of `measured.own` belongs to, (q,).
        measured: What re-encoding changes.
        seed: Seed of the trees.
    """
    sides = ((features[rows], measured.own), (features, measured.others))
    combined = Estimate(*(_linear(x, y) for x, y in sides))
    # The sum needs numpy alone, so an order by benefit exists without scikit-learn.
    if find_spec("sklearn") is None:
        return combined, None
    return combined, Estimate(*(_trees(x, y, seed) for x, y in sides))


def _of_block(
    waiting: Scores,
    encoded: Scores,
    rows: npt.NDArray[np.intp],
    scale: float,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Measure the benefit for a block of queries: own (m,), and the others' by point (n,)."""
    query = np.arange(len(rows))
    own, others = np.zeros(len(rows)), np.zeros(waiting.shape[1])
    for share in MIXTURES:
        mixed = np.where(rng.random(waiting.shape[1]) < share, encoded, waiting)
        # The answer is re-encoded with probability `share`; `own` is the difference between its two
        # states.
        for state, sign, weight in ((waiting, -1, 1 - share), (encoded, 1, share)):
            answer = state[query, rows][:, None]
            ahead = mixed > answer
            ahead[query, rows] = False
            rank = ahead.sum(axis=1) * scale
            own += sign * _found(rank)
            # What one rank less is worth to the query, by the points that rank before its answer.
            worth = (weight * scale * (_found(rank) - _found(rank + 1))).astype(np.float32)
            # +1 where re-encoding a point removes it from before the answer, -1 where it puts it
            # there.
            change = (waiting > answer).astype(np.float32) - (encoded > answer)
            change[query, rows] = 0
            others += worth @ change
    return own / len(MIXTURES), others / len(MIXTURES)


def _found(ahead: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Compute a smooth indicator that fewer than ten points rank before the answer."""
    # A hard recall@10 changes for few queries and points only, too few to learn from.
    return np.asarray(1 / (1 + (ahead / 10) ** 1.5), np.float64)


def _slices(count: int) -> Iterator[slice]:
    return (slice(at, min(at + BLOCK, count)) for at in range(0, count, BLOCK))


def _linear(x: Floats, y: Floats) -> Linear:
    centre, spread = x.mean(axis=0), x.std(axis=0)
    scale = np.where(spread > 0, spread, 1).astype(np.float32)
    # Clipped as `Linear` clips when it is applied.
    standard = np.clip((x - centre) / scale, -4, 4)
    columns = np.column_stack([standard, np.ones(len(x))]).astype(np.float64)
    penalty = RIDGE * len(x) * np.eye(columns.shape[1])
    weights = np.linalg.solve(columns.T @ columns + penalty, columns.T @ y)
    return Linear(centre, scale, weights.astype(np.float32))


def _trees(x: Floats, y: Floats, seed: int) -> Trees:
    from sklearn.ensemble import GradientBoostingRegressor

    leaf = max(5, int(LEAF_SHARE * len(x)))
    model = GradientBoostingRegressor(**TREES, min_samples_leaf=leaf, random_state=seed).fit(x, y)
    grown = [each.tree_ for each in model.estimators_[:, 0]]
    width = max(tree.node_count for tree in grown)

    # Trees grow to different sizes; padding nodes are not reachable.
    def padded(name: str, dtype: type) -> npt.NDArray[np.generic]:
        rows = [np.asarray(getattr(tree, name)).reshape(tree.node_count) for tree in grown]
        return np.stack([np.pad(row, (0, width - len(row))) for row in rows]).astype(dtype)

    return Trees(
        # scikit-learn marks a leaf with -2, `Trees` with -1.
        feature=cast("npt.NDArray[np.int32]", np.maximum(padded("feature", np.int32), -1)),
        threshold=cast("Floats", padded("threshold", np.float32)),
        left=cast("npt.NDArray[np.int32]", padded("children_left", np.int32)),
        right=cast("npt.NDArray[np.int32]", padded("children_right", np.int32)),
        # Boosting adds each tree times the learning rate to the mean of the targets.
        value=cast("Floats", padded("value", np.float32)) * np.float32(TREES["learning_rate"]),
        start=np.array([y.mean()], np.float32),
        depth=np.array([max(tree.max_depth for tree in grown)], np.int32),
    )
