"""A linear map that stays within a distance of a rotation.

Lambda-orthogonality (Ricci et al. 2025, arXiv 2509.16664): the map B takes new vectors close to the
old ones, but no further than lambda from a rotation, so that the new model loses little. Where the
dimensions differ the shorter vectors are padded with zeros.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from xbtmigrate.projectors import Affine
from xbtmigrate.training.problem import Candidate, FittedMap, Problem, Settings
from xbtmigrate.types import Direction, Vectors

LAMBDAS = (0.0, 3.0, 12.0)
SHARPNESS = 10.0
"""How steeply the penalty sets in at lambda."""
STEPS = 100
BATCH = 512
RATE = 2e-3


@dataclass(frozen=True, slots=True)
class LambdaOrthogonal:
    """The map B, cut to the old space where that is the smaller one."""

    kind: str = "lambda_orthogonal"
    directions: Collection[Direction] = (Direction.BRIDGE,)
    closed_form: bool = False

    def settings(self, problem: Problem, earlier: Sequence[Candidate]) -> Sequence[Settings]:  # noqa: ARG002
        """Try a rotation and two that may leave it, for cosine spaces."""
        return [{"lambda": each} for each in LAMBDAS if problem.cosine]

    def fit(self, problem: Problem, settings: Settings) -> FittedMap:
        """Fit B and cut it."""
        import torch  # on use: the registry loads this module even where torch is not installed

        torch.set_num_threads(problem.threads)
        weight = near_orthogonal(problem.x, problem.y, float(settings["lambda"]), seed=problem.seed)
        # Vectors are padded to the longer of the two spaces; a bridge needs the old one only.
        weight = np.ascontiguousarray(weight[:, : problem.y.shape[1]])
        return FittedMap(Affine(weight, np.zeros(weight.shape[1], np.float32)))


LAMBDA_ORTHOGONAL = LambdaOrthogonal()


def near_orthogonal(new: Vectors, old: Vectors, bound: float, *, seed: int) -> Vectors:
    """Fit B by gradient from the rotation of Procrustes.

    Args:
        new: Unit vectors of the new model, (n, d_new).
        old: Unit vectors of the old model for the same content, (n, d_old).
        bound: Lambda, the Frobenius norm of B'B - I that costs nothing; 0 keeps the rotation.
        seed: Seed of the batches.

    Returns:
        Shape (d_new, max(d_new, d_old)).
    """
    start = _rotation(new, old)
    # The rotation is optimal in closed form, so lambda = 0 needs neither steps nor torch.
    if bound == 0:
        return start
    import torch
    from torch.nn.functional import cosine_similarity, pad

    generator = torch.Generator().manual_seed(seed)
    weight = torch.from_numpy(start).requires_grad_()
    x, y = torch.from_numpy(new), torch.from_numpy(old)
    y = pad(y, (0, start.shape[1] - y.shape[1]))
    identity = torch.eye(len(start))
    optimizer = torch.optim.Adam([weight], RATE)
    for _ in range(STEPS):
        rows = torch.randint(len(x), (min(BATCH, len(x)),), generator=generator)
        apart = (1 - cosine_similarity(x[rows] @ weight, y[rows])).mean()
        norm = torch.linalg.norm(weight @ weight.T - identity)
        # sigmoid(a (|BB' - I| - lambda)) |BB' - I|: next to nothing below lambda (Ricci et al.
        # 2025).
        loss = apart + torch.sigmoid(SHARPNESS * (norm - bound)) * norm
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return np.asarray(weight.detach().numpy(), np.float32)


def _rotation(new: Vectors, old: Vectors) -> Vectors:
    """Return orthonormal rows whose first columns are the rotation of Procrustes."""
    # Full matrices: the columns beyond the old space complete the rotation, so nothing new is lost.
    left, _, right = np.linalg.svd(new.T.astype(np.float64) @ old, full_matrices=True)
    # With USV' = X'Y, the rotation UV' minimizes |XR - Y| (Schönemann 1966).
    common = min(new.shape[1], old.shape[1])
    onto = left[:, :common] @ right[:common]
    return np.asarray(np.concatenate([onto, left[:, common:]], axis=1), np.float32)
