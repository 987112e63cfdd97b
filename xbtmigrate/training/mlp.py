"""Training: the residual network, a linear map corrected by one hidden layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from xbtmigrate.projectors import Affine, Mlp
from xbtmigrate.training.pairs import PairSource
from xbtmigrate.training.problem import Candidate, Problem, Settings
from xbtmigrate.training.ridge import RidgeTrainer
from xbtmigrate.types import Direction, Vectors

if TYPE_CHECKING:
    import torch
    from torch import Tensor

HIDDEN = 512
LARGEST_BATCH = 1024
LEAST_STEPS = 16
"""Steps an epoch has at least, as far as batches of 64 allow: few pairs need steps as well."""
EPOCHS = 32
LEARNING_RATE = 1e-3
TEMPERATURE = 0.04
ALIGNMENT = 0.1
"""Weight of the distance to the target beside InfoNCE, whose weight is 1."""
NOISES = (0.0, 0.05)
EPOCHS_PER_MEASUREMENT = 4
PATIENCE = 3
"""Measurements of the held-out retrieval without progress after which the fit ends."""


class MlpTrainer:
    """Residual MLP on a linear skip; the whole starts as the ridge solution.

    In cosine spaces the loss is InfoNCE (van den Oord et al. 2018) with the roles of the search to
    come (a bridge's outputs are queries, a forward map's outputs are the gallery) plus the squared
    distance to the target, which between unit vectors is the cosine loss 2 - 2 cos. In others it
    is the squared distance alone. Gaussian noise on the inputs (XBT, ICCV 2025) is tried, and its
    absence.
    """

    kind = "mlp"

    def settings(self, problem: Problem, earlier: Sequence[Candidate]) -> Sequence[Settings]:
        """Start from the best ridge penalty so far; try noise where both sides embed text.

        The noise is XBT's means against the gap between texts and images. Pairs that reach across
        the gap, or are images on both sides, need none.
        """
        ridges = [c for c in earlier if c.kind == RidgeTrainer.kind]
        best = max(ridges, key=lambda c: c.scores.order, default=None)
        penalty = best.settings["penalty"] if best else 1e-2
        noises = NOISES if problem.source is PairSource.TEXT else NOISES[:1]
        return [{"penalty": penalty, "hidden": HIDDEN, "noise": noise} for noise in noises]

    def fit(self, problem: Problem, settings: Settings) -> Mlp:
        """Train with AdamW and a one-cycle schedule, stopped early on the held-out retrieval."""
        import torch

        torch.set_num_threads(problem.threads)
        generator = torch.Generator().manual_seed(problem.seed)
        start = RidgeTrainer().fit(problem, {"penalty": settings["penalty"]})
        network = _network(problem, start, int(settings["hidden"]), generator)
        best, waited = network.exported(), 0
        best_order = problem.score(best).order
        for epoch in _epochs(problem, network, float(settings["noise"]), generator):
            if (epoch + 1) % EPOCHS_PER_MEASUREMENT:
                continue
            present = network.exported()
            order = problem.score(present).order
            waited += 1
            if order > best_order:
                best, best_order, waited = present, order, 0
            if waited >= PATIENCE:
                break
        return best


@dataclass(frozen=True, slots=True)
class _Network:
    """The architecture in torch, between inputs and outputs scaled to a typical length of one."""

    skip: Tensor
    hidden_weight: Tensor
    hidden_bias: Tensor
    weight: Tensor
    bias: Tensor
    x_scale: float
    y_scale: float

    @property
    def parameters(self) -> list[Tensor]:
        """All that is trained."""
        return [self.skip, self.hidden_weight, self.hidden_bias, self.weight, self.bias]

    def __call__(self, x: Tensor) -> Tensor:
        """Compute (n, d_in) -> (n, d_out) on scaled vectors."""
        from torch.nn.functional import gelu

        hidden = gelu(x @ self.hidden_weight + self.hidden_bias, approximate="tanh")
        return x @ self.skip + hidden @ self.weight + self.bias

    def exported(self) -> Mlp:
        """Copy the present parameters out, the scales folded into them."""
        skip, hidden_weight, hidden_bias, weight, bias = (
            cast("Vectors", p.detach().numpy().copy()) for p in self.parameters
        )
        return Mlp(
            skip * np.float32(self.y_scale / self.x_scale),
            hidden_weight / np.float32(self.x_scale),
            hidden_bias,
            weight * np.float32(self.y_scale),
            bias * np.float32(self.y_scale),
        )


def _network(problem: Problem, start: Affine, hidden: int, generator: torch.Generator) -> _Network:
    """Build a network that equals `start` until it is trained."""
    import torch

    x_scale, y_scale = _length(problem.x), _length(problem.y)
    network = _Network(
        torch.from_numpy(start.weight * np.float32(x_scale / y_scale)),
        torch.empty(start.d_in, hidden).normal_(generator=generator),
        torch.zeros(hidden),
        torch.zeros(hidden, start.d_out),
        torch.from_numpy(start.bias / np.float32(y_scale)),
        x_scale,
        y_scale,
    )
    for parameter in network.parameters:
        parameter.requires_grad_()
    return network


def _epochs(
    problem: Problem, network: _Network, noise: float, generator: torch.Generator
) -> Iterator[int]:
    """Train in place; yields the number of each finished epoch."""
    import torch

    x = torch.from_numpy(problem.x / np.float32(network.x_scale))
    y = torch.from_numpy(problem.y / np.float32(network.y_scale))
    variance = float(y.var(dim=0).sum())
    optimizer = torch.optim.AdamW(network.parameters, weight_decay=1e-2)
    batch = min(LARGEST_BATCH, max(64, len(x) // LEAST_STEPS))
    steps = EPOCHS * math.ceil(len(x) / batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps, pct_start=0.1)
    for epoch in range(EPOCHS):
        for rows in torch.split(torch.randperm(len(x), generator=generator), batch):
            inputs = x[rows]
            if noise:
                inputs = inputs + noise * torch.randn(inputs.shape, generator=generator)
            loss = _loss(problem, network(inputs), y[rows], variance)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
        yield epoch


def _loss(problem: Problem, outputs: Tensor, targets: Tensor, variance: float) -> Tensor:
    """Squared distance in units of the targets' variance; in cosine spaces also InfoNCE."""
    import torch
    from torch.nn.functional import cross_entropy, normalize

    if not problem.cosine:
        return (outputs - targets).square().sum(dim=1).mean() / variance
    outputs = normalize(outputs, dim=1)
    distance = (outputs - targets).square().sum(dim=1).mean() / variance
    bridge = problem.direction is Direction.BRIDGE
    queries, gallery = (outputs, targets) if bridge else (targets, outputs)
    contrast = cross_entropy(queries @ gallery.T / TEMPERATURE, torch.arange(len(outputs)))
    return contrast + ALIGNMENT * distance


def _length(vectors: Vectors) -> float:
    """Root mean squared length of the rows; 1 in a cosine space."""
    return float(np.sqrt(np.mean(np.square(vectors).sum(axis=1))))
