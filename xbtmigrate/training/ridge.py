"""Training: the affine map of least squares, with its size penalised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xbtmigrate.projectors import Affine
from xbtmigrate.training.problem import Candidate, Problem, Settings

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)


class RidgeTrainer:
    """Ridge regression (Hoerl & Kennard 1970) with a free intercept.

    The penalty is in units of the mean variance of the inputs, so that it means the same for any
    pair of models, and is chosen on retrieval: between modalities the cosine misleads.
    """

    kind = "ridge"

    def settings(self, problem: Problem, earlier: Sequence[Candidate]) -> Sequence[Settings]:  # noqa: ARG002
        """Try the penalty in decades."""
        return [{"penalty": penalty} for penalty in PENALTIES]

    def fit(self, problem: Problem, settings: Settings) -> Affine:
        """Solve (X'X + penalty * mean(diag X'X) I) W = X'Y on centred data."""
        x, y = problem.x.astype(np.float64), problem.y.astype(np.float64)
        x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
        x, y = x - x_mean, y - y_mean
        gram = x.T @ x
        scale = np.trace(gram) / len(gram)
        gram[np.diag_indices_from(gram)] += float(settings["penalty"]) * scale
        weight = np.linalg.solve(gram, x.T @ y)
        bias = y_mean - x_mean @ weight
        return Affine(weight.astype(np.float32), bias.astype(np.float32))
