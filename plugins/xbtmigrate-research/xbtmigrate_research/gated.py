"""One space, but points with an uncertain projection stay in the old one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from xbtmigrate.evaluation.mixed_gallery import Serving
from xbtmigrate.evaluation.servings import GalleryCalibration, ServingSpec, Tuning
from xbtmigrate.scoring.fusion import Mask, PerPoint
from xbtmigrate.types import Channel, Scores

SHARES = tuple(step / 10 for step in range(1, 10))
"""Shares of the points that are tried to be left, besides none and all."""


@dataclass(frozen=True, slots=True)
class GatedServing:
    """One space, but points whose projection is not trusted meet the old query; raw scores.

    A gate per point by the quality of its old vector, after Darwinian Model Upgrades (Zhang et
    al., AAAI 2023, arXiv 2210.06954); here that is the uncertainty of its projection.

    Attributes:
        left: Which points are left to the old space, shape (n,).
        name: Name in tables.
        by_state: A point's score depends on no other point.
    """

    left: Mask
    name: str = "gated"
    by_state: bool = True

    @property
    def channels(self) -> frozenset[Channel]:
        """The channels whose scores it needs."""
        return frozenset({Channel.OLD, Channel.FORWARD, Channel.NEW})

    def score(self, blocks: Mapping[Channel, Scores], encoded: Mask) -> Scores:
        """Take the new score of re-encoded rows, the old one of those left, else the forward."""
        waiting = np.where(self.left, blocks[Channel.OLD], blocks[Channel.FORWARD])
        return np.where(encoded, blocks[Channel.NEW], waiting)


def choose_gate(uncertainty: PerPoint, quality: Callable[[Mask], float]) -> float:
    """Choose the gate on validation queries.

    Args:
        uncertainty: Of the projections, shape (n,).
        quality: Measures a gallery of which these points are left, higher is better.

    Returns:
        Uncertainty above which a point is left; of equals the one that leaves the fewest, inf for
        none.
    """
    # Quantiles, because uncertainties of different projectors have different scales.
    between = [float(np.quantile(uncertainty, 1 - share)) for share in SHARES]
    # inf leaves no point and -inf leaves all; `max` keeps the first of equals.
    gates = [math.inf, *between, -math.inf]
    measured = {gate: quality(uncertainty > gate) for gate in gates}
    return max(measured, key=lambda gate: measured[gate])


def tune(tuning: Tuning) -> float | None:
    """Choose the gate; None where the projector predicts no error."""
    if tuning.uncertainty is None:
        return None
    return choose_gate(tuning.uncertainty, lambda left: tuning.quality(GatedServing(left)))


def measure(known: GalleryCalibration | None) -> Serving | None:
    """Apply the gate; None where none was chosen or the projector predicts no error."""
    gate = None if known is None else known.calibration.tuned.get(GATED.name)
    if known is None or gate is None or known.uncertainty is None:
        return None
    return GatedServing(known.uncertainty > gate)


GATED = ServingSpec(
    "gated",
    measure=measure,
    tune=tune,
    needs_calibration=True,
    only_measured="a backfill projects every point",
)
