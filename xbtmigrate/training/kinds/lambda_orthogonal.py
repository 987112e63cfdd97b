"""A near-orthogonal map, and the space that both models share through it.

Lambda-orthogonality (Ricci et al. 2025, arXiv 2509.16664): B takes new vectors to the shared space,
close to the old vectors but no further than lambda from a rotation, so that the new model loses
little; F takes old vectors to the same place. Vectors of points in either state and one query B(q)
then compare. Where the dimensions differ the shorter vectors are padded with zeros.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from xbtmigrate.projectors import Affine, Architecture, Projector, SharedSpace, followed_by
from xbtmigrate.training.problem import Candidate, Fitted, Problem, Settings, reencoded
from xbtmigrate.training.selection import Scores, retrieval_scores
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

    def fit(self, problem: Problem, settings: Settings) -> Fitted:
        """Fit B and cut it."""
        # B maps into the shared space; a bridge needs the coordinates of the old one only.
        weight = near_orthogonal(problem, float(settings["lambda"]))
        return Fitted(_linear(weight[:, : problem.y.shape[1]]))


LAMBDA_ORTHOGONAL = LambdaOrthogonal()


@dataclass(frozen=True, slots=True)
class SharedReport:
    """The fitted shared space with its figures.

    Attributes:
        space: The pair of maps.
        scores: Held-out retrieval for each lambda: the mean over galleries of old vectors, of
            projected ones and, where new vectors are known, of mixed ones.
        seconds: Time of the fits.
    """

    space: SharedSpace
    scores: dict[float, Scores]
    seconds: float


def fit_shared(problem: Problem, bridge: Projector, forward: Projector) -> SharedReport:
    """Fit B for every lambda and keep the best; F is the forward map followed by B.

    Args:
        problem: A bridge's problem between two cosine spaces.
        bridge: The fitted bridge, whose manifest the maps take over.
        forward: The fitted forward map.
    """
    started = time.monotonic()
    spaces = {
        each: _space(near_orthogonal(problem, each), each, bridge, forward) for each in LAMBDAS
    }
    scores = {each: _score(problem, space) for each, space in spaces.items()}
    best = max(LAMBDAS, key=lambda each: scores[each].order)
    return SharedReport(spaces[best], scores, time.monotonic() - started)


def near_orthogonal(problem: Problem, bound: float) -> Vectors:
    """Fit B by gradient from the rotation of Procrustes.

    Args:
        problem: A bridge's problem: x are new vectors, y old ones.
        bound: Lambda, the Frobenius norm of B'B - I that costs nothing; 0 keeps the rotation.

    Returns:
        Shape (d_new, max(d_new, d_old)).
    """
    start = _rotation(problem)
    if bound == 0:
        return start
    # Only here: with lambda 0 the rotation is the solution, and no torch is needed.
    import torch
    from torch.nn.functional import cosine_similarity, pad

    torch.set_num_threads(problem.threads)
    generator = torch.Generator().manual_seed(problem.seed)
    weight = torch.from_numpy(start).requires_grad_()
    x, y = torch.from_numpy(problem.x), torch.from_numpy(problem.y)
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


def _rotation(problem: Problem) -> Vectors:
    """Return orthonormal rows whose first columns are the rotation of Procrustes."""
    d_new, d_old = problem.moments.cross.shape
    # Full matrices: the columns beyond the old space complete the rotation, so nothing new is lost.
    left, _, right = np.linalg.svd(problem.moments.uncentred.cross, full_matrices=True)
    shared = min(d_new, d_old)
    onto = left[:, :shared] @ right[:shared]
    return np.asarray(np.concatenate([onto, left[:, shared:]], axis=1), np.float32)


def _space(weight: Vectors, bound: float, bridge: Projector, forward: Projector) -> SharedSpace:
    def mapped(source: Projector, architecture: Architecture) -> Projector:
        manifest = replace(
            source.manifest,
            kind=LAMBDA_ORTHOGONAL.kind,
            d_out=architecture.d_out,
            output_distance=bridge.manifest.output_distance,
            hyperparameters={"lambda": bound},
            # The figures in the bridge's manifest are of another map.
            metrics={},
            uncertainty_metrics={},
        )
        return Projector(manifest, architecture)

    return SharedSpace(
        mapped(bridge, _linear(weight)), mapped(forward, followed_by(forward.architecture, weight))
    )


def _score(problem: Problem, space: SharedSpace) -> Scores:
    """Score the one query against galleries in every state."""
    task = problem.task
    old, projected = space.kept(task.gallery_old), space.forward.apply(task.gallery_old)
    galleries = [old, projected]
    if task.gallery_new is not None:
        new = space.bridge.apply(task.gallery_new)
        # Half re-encoded, beside old and beside projected vectors: every stage of a backfill.
        galleries += [reencoded(each, task, 2, new) for each in (old, projected)]
    queries = space.bridge.apply(task.queries_new)
    return Scores.mean(
        [retrieval_scores(queries, each, task.relevant, problem.y_distance) for each in galleries]
    )


def _linear(weight: Vectors) -> Affine:
    return Affine(np.ascontiguousarray(weight), np.zeros(weight.shape[1], np.float32))
