"""Fit an uncertainty estimate for any fitted map, and choose between the estimates."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from xbtmigrate.projectors import HeteroscedasticHead, Mlp, NeighbourResidual
from xbtmigrate.projectors.uncertainty import MIN_ERROR, Uncertainty
from xbtmigrate.training.problem import Problem
from xbtmigrate.types import Vectors

MAX_NEIGHBOURS = 8192
"""Training inputs kept by the neighbour estimate: bounds its file and its time per point."""
HIDDEN = 256
EPOCHS = 20
BATCH = 128


def fit_uncertainty(
    problem: Problem,
    trained: Uncertainty | None,
    errors: Vectors,
    truth: Vectors,
    *,
    networks: bool,
) -> tuple[Uncertainty, dict[str, float]]:
    """Fit every estimate of a map's error and keep the best on held-out pairs.

    Args:
        problem: Pairs whose inputs the estimates learn from, with held-out pairs.
        trained: The estimate that was trained with the map, if any.
        errors: Squared error per coordinate of the map at each pair of `problem`, shape (n,).
        truth: The same at each held-out pair, shape (k,).
        networks: Whether a network may be trained, if the map came without an estimate.

    Returns:
        The best estimate, and the rank correlation of each with the true error.
    """
    # The estimates are logarithms, and an exact copy has no error.
    errors = np.maximum(errors, np.float32(MIN_ERROR))
    # Neighbours always; a network only where the map is one too, or came with its own.
    estimates: list[Uncertainty] = [_keep_neighbours(problem.alone, errors)]
    if trained is not None:
        estimates.append(trained)
    elif networks:
        estimates.append(_fit_head(problem.alone, errors))
    # An estimate is measured on inputs of the width it was fitted on, with or without side vectors.
    held = {each.x_held.shape[1]: each.x_held for each in (problem.alone, problem)}
    figures = {e.name: rank_correlation(e(held[e.d_in]), truth) for e in estimates}
    return max(estimates, key=lambda e: figures[e.name]), figures


def rank_correlation(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> float:
    """Compute Spearman's rank correlation of two vectors of shape (n,); 0 where one is constant."""
    # Spearman's rho divides by the spread of the ranks.
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the rank of each value; equal ones share the middle of their places."""
    # Importing scipy.stats takes longer than fitting most maps.
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place])


def _keep_neighbours(problem: Problem, errors: Vectors) -> NeighbourResidual:
    """Keep a random sample of the inputs with their errors, rounded as the artefact keeps them."""
    rows = np.random.default_rng(problem.seed).permutation(len(errors))[:MAX_NEIGHBOURS]
    sample = NeighbourResidual(problem.x[rows], np.sqrt(errors[rows]))
    # Compared as it will be loaded, in half precision, not better than that.
    return NeighbourResidual.from_tensors(sample.tensors())


def _fit_head(problem: Problem, errors: Vectors) -> HeteroscedasticHead:
    """Minimise mean(exp(-s) l / 2 + s / 2) over s(x), l the error (FastFill, label-free)."""
    import torch
    from torch import nn

    torch.set_num_threads(problem.threads)
    # A separate generator: the result does not depend on the global random state.
    generator = torch.Generator().manual_seed(problem.seed)
    # The head learns the deviation from the mean error; the level returns in the last bias.
    level = float(np.log(errors.mean()))
    x, loss_of = torch.from_numpy(problem.x), torch.from_numpy(errors / np.exp(level))
    scale = float(x.std(dim=0).mean()) or 1.0
    first, last = nn.Linear(x.shape[1], HIDDEN), nn.Linear(HIDDEN, 1)
    with torch.no_grad():
        # Hidden units start with a spread near one, however short the vectors are.
        first.weight.normal_(0, 1 / (scale * math.sqrt(x.shape[1])), generator=generator)
        first.bias.zero_()
        # Starts from the mean error everywhere, the best constant guess.
        last.weight.zero_()
        last.bias.zero_()
    parameters = [*first.parameters(), *last.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=1e-2)
    for _ in range(EPOCHS):
        for rows in torch.split(torch.randperm(len(x), generator=generator), BATCH):
            s = last(nn.functional.gelu(first(x[rows]), approximate="tanh"))[:, 0]
            loss = ((-s).exp() * loss_of[rows] / 2 + s / 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    # torch keeps (d_out, d_in), `Mlp` (d_in, d_out).
    weights = [p.detach().numpy().T.copy() for p in parameters]
    skip = np.zeros((x.shape[1], 1), np.float32)
    return HeteroscedasticHead(
        Mlp(skip, (weights[0], weights[2]), (weights[1], weights[3] + np.float32(level)))
    )
