"""Translate a score threshold of the old model to the scale of another serving.

Both servings answer the same known queries. A threshold is mapped to the score that the same number
of answers reach (quantile mapping), so an application keeps its number of hits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbtmigrate.types import Vectors

QUERIES = 64
"""Known queries that are searched."""
ANSWERS = 10
"""Best answers of each query that are compared."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Scores of the same rank in two servings, ascending; higher is nearer in both.

    Attributes:
        keep: Scores of the old model.
        serving: Scores of the other serving.
    """

    keep: npt.NDArray[np.float64]
    serving: npt.NDArray[np.float64]

    @classmethod
    def match(cls, keep: Sequence[float], serving: Sequence[float]) -> Scale:
        """Match the scores of two servings by rank; there may be more of one than of the other."""
        # Percentiles: at most 640 scores have no finer detail.
        at = np.linspace(0, 1, 101)
        return cls(np.quantile(keep, at), np.quantile(serving, at))

    def translate(self, threshold: float) -> float:
        """Translate one threshold; outside the range seen, by linear extrapolation."""
        # Beyond the scores seen the slope of their whole range is used: the few at an end scatter
        # too much for one.
        low, high = self.keep[0], self.keep[-1]
        slope = (self.serving[-1] - self.serving[0]) / max(high - low, 1e-12)
        if threshold < low:
            return float(self.serving[0] + slope * (threshold - low))
        if threshold > high:
            return float(self.serving[-1] + slope * (threshold - high))
        return float(np.interp(threshold, self.keep, self.serving))


def sample_queries(queries: Vectors) -> Vectors:
    """Choose evenly spread known queries to search."""
    return queries[:: max(1, len(queries) // QUERIES)][:QUERIES]
