"""Fit the weights of a fusion on queries whose answers are known.

The fit is a conditional logit (McFadden 1974): the probability that the right point is chosen out
of the whole gallery, with random points re-encoded, which makes the scores of both states
comparable. The gallery may consist only of points re-encoded for training pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt

from xbtmigrate.errors import TrainingError
from xbtmigrate.scoring.fusion import Fusion, PerPoint, Weights
from xbtmigrate.types import Channel, Scores

Rows: TypeAlias = npt.NDArray[np.intp]
Floats: TypeAlias = npt.NDArray[np.float64]

HARD = 50
"""Best points of each channel, which are always candidates."""

RANDOM = 100
"""Random candidates, which represent all other points."""

STATES = 3
"""Random mixtures of re-encoded and waiting points drawn for each answer."""

RIDGE = 1e-3
# Log-weight of an excluded candidate: its probability underflows to zero.
EXCLUDED = -1e30
MIN_QUERIES = 20


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """Queries with known answers over points whose true new vectors are known.

    Attributes:
        blocks: Scores of each channel, shape (m, n). Forward scores must come from projections by
            a projector that has not seen the point (folds), or they are trusted too much.
        hubness: Hubness of the points in each channel, shape (n,), from other queries than these.
        query: Query number of each (query, answer) pair, shape (pairs,).
        row: Point of each pair, shape (pairs,).
    """

    blocks: Mapping[Channel, Scores]
    query: Rows
    row: Rows
    hubness: Mapping[Channel, PerPoint] = field(default_factory=dict)


def calibrate(
    sample: CalibrationSet,
    *,
    waiting: Sequence[Channel] = (Channel.OLD, Channel.FORWARD),
    encoded: Sequence[Channel] = (Channel.NEW, Channel.OLD),
    seed: int = 0,
) -> Fusion:
    """Fit a fusion.

    Args:
        sample: Queries, answers and scores.
        waiting: Channels of a point that is not yet re-encoded.
        encoded: Channels of a re-encoded point; leave `Channel.OLD` out where the old vectors
            will be dropped while the fusion is in use.
        seed: Seed of the random negatives and mixtures.

    Raises:
        TrainingError: Too few queries.
    """
    queries = len(np.unique(sample.query))
    if queries < MIN_QUERIES:
        raise TrainingError(
            f"{queries} queries with known answers are too few to calibrate scores",
            f"give at least {MIN_QUERIES}, preferably some hundreds",
        )
    rng = np.random.default_rng(seed)
    channels = sorted({*waiting, *encoded})
    columns, offsets = _candidates(sample, channels, rng)
    wait = _features(sample, columns, waiting)
    done = _features(sample, columns, encoded)
    # The weight of this constant becomes `Fusion.offset`.
    done = np.concatenate([done, np.ones((*columns.shape, 1), np.float32)], axis=2)
    drawn = []
    # Each choice gets a random share of re-encoded points, so that one set of weights holds
    # from the start of a backfill to its end.
    for _ in range(STATES):
        share = rng.random((len(columns), 1))
        state = (rng.random(columns.shape) < share)[:, :, None]
        drawn.append(np.concatenate([wait * ~state, done * state], axis=2))
    weights, loss = conditional_logit(np.concatenate(drawn), np.tile(offsets, (STATES, 1)))
    # Columns: scores and hubness of the waiting channels, the same of the encoded ones, the
    # constant.
    cut = 2 * len(waiting)
    return Fusion(
        waiting=_named(waiting, weights[:cut]),
        encoded=_named(encoded, weights[cut:-1]),
        offset=float(weights[-1]),
        queries=queries,
        loss=loss,
    )


def conditional_logit(
    features: npt.NDArray[np.float32], offsets: Floats, *, iterations: int = 200
) -> tuple[Floats, float]:
    """Maximise the likelihood that candidate 0 is chosen.

    Args:
        features: Shape (choices, candidates, k); the chosen candidate is the first.
        offsets: Known part of each candidate's utility, shape (choices, candidates); the log of
            how many points it represents, `EXCLUDED` for none.
        iterations: Most steps of the minimisation.

    Returns:
        Weights of shape (k,), and the mean negative log-likelihood in nats.
    """
    from scipy import optimize

    # Standardised, so that the ridge weighs cosines, hubness and the constant equally.
    scale = features[offsets > EXCLUDED].std(axis=0, dtype=np.float64)
    scale[scale == 0] = 1
    scaled = (features / scale).astype(np.float64)
    rows, right = scaled.reshape(-1, scaled.shape[2]), scaled[:, 0].mean(axis=0)

    def loss_and_gradient(weights: Floats) -> tuple[float, Floats]:
        # Loss: log sum_j exp(u_j) - u_0, averaged over the choices. Its gradient is E[x] - x_0.
        utility = (rows @ weights).reshape(offsets.shape) + offsets
        top = utility.max(axis=1)
        chosen = np.exp(utility - top[:, None])
        total = chosen.sum(axis=1)
        chosen /= total[:, None]
        loss = float((np.log(total) + top - utility[:, 0]).mean() + RIDGE / 2 * weights @ weights)
        return loss, chosen.reshape(-1) @ rows / len(chosen) - right + RIDGE * weights

    # The ridge makes the minimum unique, even if two channels have the same scores.
    start = np.zeros(features.shape[2])
    found = optimize.minimize(
        loss_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": iterations}
    )
    return found.x / scale, float(found.fun - RIDGE / 2 * found.x @ found.x)


def _candidates(
    sample: CalibrationSet, channels: Sequence[Channel], rng: np.random.Generator
) -> tuple[Rows, Floats]:
    """Choose the answer, hard negatives and random ones, and weight the random ones.

    The offsets are McFadden's correction for stratified sampling of alternatives (1978): an answer
    that is not among the hard points is one of the drawn ones.
    """
    points = sample.blocks[channels[0]].shape[1]
    best = min(HARD, points)
    # The best points of each channel decide the ranking, and random samples rarely hold them.
    hard = np.concatenate(
        [
            np.argpartition(sample.blocks[c], points - best, axis=1)[:, -best:][sample.query]
            for c in channels
        ],
        axis=1,
    )
    drawn = rng.integers(0, points, (len(sample.query), RANDOM))
    columns = np.concatenate([sample.row[:, None], hard, drawn], axis=1)
    answers = sample.query * points + sample.row
    usable = _first_occurrence(columns)
    # A query's other right answers are not negatives, nor is its answer if drawn again.
    usable[:, 1:] &= ~np.isin(sample.query[:, None] * points + columns[:, 1:], answers)
    sampled = usable.copy()
    sampled[:, 1:-RANDOM] = False
    sampled[:, 0] = ~(hard == sample.row[:, None]).any(axis=1)
    # Each random candidate represents an equal part of the points that are not hard negatives.
    others = np.bincount(sample.query)[sample.query] - 1
    left = points - others - (usable & ~sampled).sum(axis=1)
    each = np.maximum(left, 1) / np.maximum(sampled.sum(axis=1), 1)
    return columns, np.where(usable, sampled * np.log(each)[:, None], EXCLUDED)


def _first_occurrence(columns: Rows) -> npt.NDArray[np.bool_]:
    """Mark the first of equal entries in each row."""
    order = np.argsort(columns, axis=1, kind="stable")
    ordered = np.take_along_axis(columns, order, axis=1)
    first = np.ones(columns.shape, dtype=np.bool_)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    marks = np.empty_like(first)
    np.put_along_axis(marks, order, first, axis=1)
    return marks


def _features(
    sample: CalibrationSet, columns: Rows, channels: Sequence[Channel]
) -> npt.NDArray[np.float32]:
    """Stack scores, then hubness, of the candidates in each channel: (pairs, c, 2 * channels)."""
    none = np.zeros(1 + int(columns.max()), np.float32)
    scores = [sample.blocks[c][sample.query[:, None], columns] for c in channels]
    hubs = [sample.hubness.get(c, none)[columns] for c in channels]
    return cast("npt.NDArray[np.float32]", np.stack([*scores, *hubs], axis=2, dtype=np.float32))


def _named(channels: Sequence[Channel], weights: Floats) -> dict[Channel, Weights]:
    score, hub = weights[: len(channels)], weights[len(channels) :]
    return {c: Weights(float(s), float(h)) for c, s, h in zip(channels, score, hub, strict=True)}
