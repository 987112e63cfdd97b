"""Training: the orthogonal map, a rotation that keeps the input space's geometry."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xbtmigrate.projectors import Affine
from xbtmigrate.training.problem import Candidate, Problem, Settings


class ProcrustesTrainer:
    """Orthogonal Procrustes (Schönemann 1966), with the scale of Schönemann & Carroll 1970.

    Between unequal dimensions the map has orthonormal rows or columns. Centred, both means are
    taken away first and the target's is added back.
    """

    kind = "procrustes"

    def settings(self, problem: Problem, earlier: Sequence[Candidate]) -> Sequence[Settings]:  # noqa: ARG002
        """Try both, centred and not."""
        return [{"centred": False}, {"centred": True}]

    def fit(self, problem: Problem, settings: Settings) -> Affine:
        """Solve max tr(W' X' Y) over orthonormal W by one SVD."""
        x, y = problem.x.astype(np.float64), problem.y.astype(np.float64)
        x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
        if not settings["centred"]:
            x_mean, y_mean = np.zeros_like(x_mean), np.zeros_like(y_mean)
        x, y = x - x_mean, y - y_mean
        left, values, right = np.linalg.svd(x.T @ y, full_matrices=False)
        rotation = left @ right
        weight = rotation * (values.sum() / np.square(x @ rotation).sum())
        bias = y_mean - x_mean @ weight
        return Affine(weight.astype(np.float32), bias.astype(np.float32))
