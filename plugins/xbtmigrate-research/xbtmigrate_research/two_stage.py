"""Recall by the old vectors alone, then rank what was recalled by the calibrated scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xbtmigrate.evaluation.mixed_gallery import Blocks, Mask, Serving
from xbtmigrate.evaluation.servings import GalleryCalibration, ServingSpec
from xbtmigrate.scoring.fusion import CalibratedServing
from xbtmigrate.types import Channel, Scores


@dataclass(frozen=True, slots=True)
class TwoStage:
    """Wide recall by the old vectors alone, then another serving's scores for what was recalled.

    One search over one index, and no more than `width` points to look up: what the old model does
    not recall is lost.

    Attributes:
        second: Scores the recalled points.
        width: Number of points recalled.
    """

    second: Serving
    width: int = 1000
    name: str = "two-stage"

    @property
    def channels(self) -> frozenset[Channel]:
        """The channels whose scores it needs."""
        return self.second.channels | {Channel.OLD}

    @property
    def by_state(self) -> bool:
        """What is recalled depends on nothing that is re-encoded."""
        return self.second.by_state

    def score(self, blocks: Blocks, encoded: Mask) -> Scores:
        """Score the recalled rows by the second serving; no other row is found."""
        old, scores = blocks[Channel.OLD], self.second.score(blocks, encoded)
        if self.width >= old.shape[1]:
            return scores
        # Only the last recalled score is needed, which takes no sort; its ties are recalled, too.
        least = np.partition(old, -self.width, axis=1)[:, -self.width]
        return np.where(old >= least[:, None], scores, np.float32(-np.inf))


def measure(known: GalleryCalibration | None) -> Serving | None:
    """Rank the recalled points as `calibrated` does; None without a calibration."""
    if known is None:
        return None
    return TwoStage(CalibratedServing(known.calibration.fusion, known.hubness))


TWO_STAGE = ServingSpec(
    "two-stage",
    measure=measure,
    needs_calibration=True,
    only_measured="searchers recall from both spaces at once, by calibrated",
)
