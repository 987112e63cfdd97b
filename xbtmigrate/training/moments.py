"""Compute the first and second moments of pairs, the only input of closed forms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from xbtmigrate.types import Vectors

Matrix: TypeAlias = npt.NDArray[np.float64]


# Compared by identity: closed forms keep what they have decomposed.
@dataclass(frozen=True, eq=False, slots=True)
class Moments:
    """Moments of inputs x and targets y, about their means unless these are given as zero.

    Attributes:
        count: Number of pairs.
        mean_x: (d_in,).
        mean_y: (d_out,).
        gram: X'X, (d_in, d_in).
        gram_y: Y'Y, (d_out, d_out).
        cross: X'Y, (d_in, d_out).
    """

    count: int
    mean_x: Matrix
    mean_y: Matrix
    gram: Matrix
    gram_y: Matrix
    cross: Matrix

    @property
    def uncentred(self) -> Moments:
        """The same about the origin."""
        return replace(
            self,
            mean_x=np.zeros_like(self.mean_x),
            mean_y=np.zeros_like(self.mean_y),
            # sum x x' = sum (x - m)(x - m)' + n m m'.
            gram=self.gram + self.count * np.outer(self.mean_x, self.mean_x),
            gram_y=self.gram_y + self.count * np.outer(self.mean_y, self.mean_y),
            cross=self.cross + self.count * np.outer(self.mean_x, self.mean_y),
        )

    @classmethod
    def of(cls, x: Vectors, y: Vectors) -> Moments:
        """Measure inputs (n, d_in) and targets (n, d_out)."""
        mean_x, mean_y = x.mean(axis=0, dtype=np.float64), y.mean(axis=0, dtype=np.float64)
        # Centred first, in float64: subtracting n m m' afterwards cancels most digits where means
        # are long.
        x64, y64 = x - mean_x, y - mean_y
        return cls(len(x), mean_x, mean_y, x64.T @ x64, y64.T @ y64, x64.T @ y64)
