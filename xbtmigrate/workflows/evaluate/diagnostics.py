"""Explain the figures: projection errors, score distributions, and single queries."""

from __future__ import annotations

from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt

from xbtmigrate.documents.evaluate import (
    ErrorEstimateDocument,
    FlipDocument,
    FlipsDocument,
    ScoresDocument,
    ShapesDocument,
)
from xbtmigrate.evaluation.retrieval import QueryScores, Relevance
from xbtmigrate.scoring.fusion import CalibratedServing
from xbtmigrate.training.fit_uncertainty import rank_correlation
from xbtmigrate.types import Channel, Scores
from xbtmigrate.workflows.evaluate.experiment import MappedGallery
from xbtmigrate.workflows.evaluate.trial import Trial

Rows: TypeAlias = npt.NDArray[np.intp]

BINS = 20
# Edges of the histograms, so 31 bins.
EDGES = 32
SHOWN_TEXT = 160
MAX_EXAMPLES = 5
SCORES = 8_000_000
"""Entries of one block of scores that the distributions are made from."""


def compare_error_estimate(mapped: MappedGallery) -> ErrorEstimateDocument | None:
    """Compare the predicted error of each projection with the true one.

    Returns:
        The comparison, by rising prediction; None without a projector that predicts its error.
    """
    sides = mapped.sides
    if sides is None or mapped.uncertainty is None:
        return None
    true = np.linalg.norm(sides.new - sides.projected, axis=1)
    # The projector estimates s, the log of the squared error of one coordinate; over d
    # coordinates the distance is sqrt(d * exp(s)).
    variance = np.exp(mapped.uncertainty.astype(np.float64))
    predicted = np.sqrt(sides.projected.shape[1] * variance)
    # Bins of equal counts: with equal widths some would be almost empty.
    parts = np.array_split(np.argsort(predicted, kind="stable"), min(BINS, len(predicted)))
    return {
        "rank_correlation": rank_correlation(predicted, true),
        "predicted": [float(predicted[part].mean()) for part in parts],
        "true": [float(true[part].mean()) for part in parts],
        "low": [float(np.quantile(true[part], 0.1)) for part in parts],
        "high": [float(np.quantile(true[part], 0.9)) for part in parts],
    }


def measure_score_shapes(trial: Trial, mapped: MappedGallery) -> ScoresDocument | None:
    """Compare scores of points in both states, raw and calibrated.

    Each query's right answer and best wrong one are scored as waiting points and as re-encoded
    ones. Raw: the old query on old vectors, the new query on new ones. Calibrated: log-probability
    that the point is the answer.

    Returns:
        The distributions; None where nothing was calibrated.
    """
    sides, known = mapped.sides, mapped.calibrated
    if sides is None or known is None:
        return None
    # Full score matrices are needed at once, so large galleries use fewer queries.
    count = int(np.clip(SCORES // len(trial.ids), 1, len(trial.questions)))
    asked = slice(0, count)
    blocks = {
        Channel.OLD: trial.old_space.score(asked),
        Channel.FORWARD: sides.space(Channel.FORWARD, trial.queries_new[asked]).score(),
        Channel.NEW: trial.full_space.score(asked),
    }
    calibrated = CalibratedServing(known.calibration.fusion, known.hubness)
    # Every point is scored in both states, which a real gallery never shows at once: only then
    # can a difference between the states be told from one between the points.
    waiting, encoded = (
        calibrated.score(blocks, np.full(len(trial.ids), state)) for state in (False, True)
    )
    mass = _log_mass(waiting, encoded)
    relevance = trial.relevance.part(asked)
    return {
        "raw": _shapes(blocks[Channel.OLD], blocks[Channel.NEW], relevance),
        "calibrated": _shapes(waiting - mass, encoded - mass, relevance),
    }


def find_flips(trial: Trial, before: QueryScores, after: QueryScores) -> FlipsDocument:
    """Return queries that one system answers within the first 10 and the other does not."""
    # mrr@10 is 1/rank of the first right answer, and 0 beyond the tenth place.
    old, new = (1 / np.maximum(s.values["mrr@10"], 1e-9) for s in (before, after))

    def rank(value: float) -> int | None:
        return round(value) if value <= 10 else None

    def listed(rows: Rows) -> list[FlipDocument]:
        return [
            {
                "query": trial.questions.texts[row][:SHOWN_TEXT],
                "before": rank(old[row]),
                "after": rank(new[row]),
            }
            for row in rows[:MAX_EXAMPLES]
        ]

    lost = np.flatnonzero((old <= 10) & (new > 10))
    gained = np.flatnonzero((old > 10) & (new <= 10))
    return {
        "lost": listed(lost[np.argsort(old[lost], kind="stable")]),
        "gained": listed(gained[np.argsort(new[gained], kind="stable")]),
    }


def _shapes(waiting: Scores, encoded: Scores, relevance: Relevance) -> ShapesDocument:
    """Return histograms of right answers and each query's best wrong one, in both states."""
    values = {}
    for state, scores in (("waiting", waiting), ("encoded", encoded)):
        values[f"right_{state}"] = scores[relevance.query, relevance.row]
        wrong = scores.copy()
        wrong[relevance.query, relevance.row] = -np.inf
        values[f"wrong_{state}"] = wrong.max(axis=1)
    known = np.concatenate([each[np.isfinite(each)] for each in values.values()])
    # Outliers go to the outer bins; otherwise a few would squeeze the rest into one.
    low, high = np.quantile(known, [0.005, 0.995])
    edges = np.linspace(low, max(high, low + 1e-6), EDGES)
    shares = {
        name: (np.histogram(np.clip(each, low, high), edges)[0] / len(each)).tolist()
        for name, each in values.items()
    }
    return cast("ShapesDocument", {"edges": edges.tolist(), **shares})


def _log_mass(waiting: Scores, encoded: Scores) -> Scores:
    """Return each query's log-sum-exp over all points in both states, the softmax denominator."""
    # log sum exp(x) = m + log sum exp(x - m) with m = max(x), which cannot overflow.
    top = np.maximum(waiting.max(axis=1), encoded.max(axis=1))[:, None]
    total = np.exp(waiting - top).sum(axis=1) + np.exp(encoded - top).sum(axis=1)
    mass: Scores = top + np.log(total)[:, None]
    return mass
