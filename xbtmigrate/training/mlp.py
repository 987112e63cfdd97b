"""Training: the residual network, a linear map corrected by one hidden layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from xbtmigrate.projectors import Affine, Mlp
from xbtmigrate.training.problem import Candidate, Problem, Settings
from xbtmigrate.training.ridge import RidgeTrainer
from xbtmigrate.types import Direction

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

BATCH = 1024
EPOCHS = 40
PATIENCE = 4
"""Measurements without progress after which the fit ends; one is taken every other epoch."""


class MlpTrainer:
    """Residual MLP on a linear skip that starts as the ridge solution.

    The loss is the squared distance to the target, which between unit vectors is the cosine loss
    2 - 2 cos, plus, in cosine spaces, InfoNCE (van den Oord et al. 2018) with the roles of the
    search to come: a bridge's outputs are the queries, a forward map's outputs are the gallery.
    Gaussian noise on the inputs (XBT, ICCV 2025) is tried, and tried without.
    """

    kind = "mlp"

    def settings(self, problem: Problem, earlier: Sequence[Candidate]) -> Sequence[Settings]:
        """Try with and without contrast, with and without noise, from the best ridge penalty."""
        ridges = [c for c in earlier if c.kind == RidgeTrainer.kind]
        best = max(ridges, key=lambda c: c.scores.order, default=None)
        start = {"penalty": best.settings["penalty"] if best else 1e-2, "hidden": 512}
        tries = [(0.0, 0.0)]
        if problem.cosine:
            tries += [(1.0, 0.0), (1.0, 0.05)]
        return [{**start, "contrast": contrast, "noise": noise} for contrast, noise in tries]

    def fit(self, problem: Problem, settings: Settings) -> Mlp:
        """Train with AdamW and a cosine schedule, stopped early on the held-out retrieval."""
        import torch

        torch.set_num_threads(problem.threads)
        generator = torch.Generator().manual_seed(problem.seed)
        start = RidgeTrainer().fit(problem, {"penalty": settings["penalty"]})
        layers = _layers(start, int(settings["hidden"]), generator)
        best, best_order, waited = _mlp(layers), problem.score(_mlp(layers)).order, 0
        for epoch in _epochs(problem, settings, layers, generator):
            if epoch % 2 == 0:
                continue
            present = _mlp(layers)
            order = problem.score(present).order
            waited += 1
            if order > best_order:
                best, best_order, waited = present, order, 0
            if waited >= PATIENCE:
                break
        return best


def _epochs(
    problem: Problem, settings: Settings, layers: nn.ModuleList, generator: torch.Generator
) -> Iterator[int]:
    """Train in place; yields the number of each finished epoch."""
    import torch

    x, y = torch.from_numpy(problem.x), torch.from_numpy(problem.y)
    scale = float(y.var(dim=0).sum())
    optimizer = torch.optim.AdamW(layers.parameters(), lr=float(settings.get("lr",1e-3)), weight_decay=float(settings.get("wd",1e-2)))
    steps = math.ceil(len(x) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=float(settings.get("lr",1e-3)), total_steps=steps * EPOCHS, pct_start=0.1
    )
    noise, contrast = float(settings["noise"]), float(settings["contrast"])
    for epoch in range(EPOCHS):
        for rows in torch.randperm(len(x), generator=generator).split(BATCH):
            inputs = x[rows]
            if noise:
                inputs = inputs + noise * torch.randn(inputs.shape, generator=generator)
                if problem.cosine: inputs=torch.nn.functional.normalize(inputs,dim=1)
            outputs = _forward(layers, inputs)
            loss = _loss(outputs, y[rows], problem, contrast=contrast, scale=scale, t=float(settings.get("t",0.05)), reg=float(settings.get("reg",1.)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        yield epoch


def _loss(
    outputs: Tensor, targets: Tensor, problem: Problem, *, contrast: float, scale: float,t,reg
) -> Tensor:
    """Squared distance in units of the targets' variance, plus weighted InfoNCE."""
    import torch
    from torch.nn import functional

    if problem.cosine:
        outputs = functional.normalize(outputs, dim=1)
    loss = reg*(outputs - targets).square().sum(dim=1).mean() / scale
    if contrast:
        bridge = problem.direction is Direction.BRIDGE
        queries, gallery = (outputs, targets) if bridge else (targets, outputs)
        logits = queries @ gallery.T / t
        own = torch.arange(len(logits))
        loss = loss + contrast * functional.cross_entropy(logits, own)
    return loss


def _layers(start: Affine, hidden: int, generator: torch.Generator) -> nn.ModuleList:
    """Build skip, hidden and output layer; at first the network equals `start`."""
    import torch
    from torch import nn

    skip = nn.Linear(start.d_in, start.d_out, bias=False)
    first, last = nn.Linear(start.d_in, hidden), nn.Linear(hidden, start.d_out)
    with torch.no_grad():
        skip.weight.copy_(torch.from_numpy(start.weight.T.copy()))
        first.weight.normal_(0, 1 , generator=generator)
        first.bias.zero_()
        last.weight.zero_()
        last.bias.copy_(torch.from_numpy(start.bias))
    return nn.ModuleList([skip, first, last])


def _forward(layers: nn.ModuleList, x: Tensor) -> Tensor:
    from torch.nn import functional

    skip, first, last = layers
    hidden: Tensor = functional.gelu(first(x), approximate="tanh")
    outputs: Tensor = skip(x) + last(hidden)
    return outputs


def _mlp(layers: nn.ModuleList) -> Mlp:
    """Copy the layers' present parameters into the numpy architecture."""
    skip, first, last = (layer.weight.detach().numpy().T.copy() for layer in layers)
    first_bias, last_bias = (layer.bias.detach().numpy().copy() for layer in layers[1:])
    return Mlp(skip, first, first_bias, last, last_bias)
