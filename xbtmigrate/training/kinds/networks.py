"""The networks in torch: how they are trained, and how numpy gets their weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from xbtmigrate.projectors import Affine, HeteroscedasticHead, Mlp
from xbtmigrate.training.kinds.closed_form import RIDGE
from xbtmigrate.training.kinds.losses import Objective
from xbtmigrate.training.problem import FittedMap, Problem, Settings
from xbtmigrate.types import Vectors

WIDTHS = (2048,)
"""Hidden layers of the residual network: one wide one learns more in the same time than two."""
HIDDEN = 512
"""Width of the two-branch network's trunk."""
INPUT_SCALE = 8.0
"""Length that inputs are scaled to: coordinates near one, where GELU bends."""
DROPOUT = 0.1
MAX_BATCH = 512
MIN_STEPS = 16
"""Least steps per epoch, as far as batches of 64 allow: few pairs need enough steps too."""
RATE = 2.5e-3
ROUND = 4
"""Epochs between measurements of the held-out retrieval; the best state is kept."""


def train(problem: Problem, name: str, settings: Settings, objective: Objective) -> FittedMap:
    """Train a network, from a seed, with AdamW and a one-cycle schedule (Smith & Topin 2018).

    Args:
        problem: The pairs, the seed, and the retrieval that the best state is chosen by.
        name: "residual" or "two_branch".
        settings: Loss, noise, epochs, ridge penalty.
        objective: What is minimised.
    """
    torch.set_num_threads(problem.threads)
    # Equal arguments give equal maps, and the caller's random state stays as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(problem.seed)
        network = NETWORKS[name](problem, settings)
        best, best_order = None, (-1.0,) * 3
        for _ in _rounds(problem, network, objective, settings):
            present = network.exported()
            order = problem.score(present.architecture).order
            # Early stopping by retrieval, the map's purpose: the loss still falls when it no longer
            # gains.
            if order > best_order:
                best, best_order = present, order
    return cast("FittedMap", best)


class Residual(nn.Module):
    """The ridge solution, corrected by a hidden layer; starts as the ridge solution.

    Trained by likelihood it has one more output: the logarithm of the expected loss.
    """

    def __init__(self, problem: Problem, settings: Settings) -> None:
        super().__init__()
        start = cast("Affine", RIDGE.fit(problem, settings).architecture)
        self.x_scale, self.y_scale = INPUT_SCALE / length(problem.x), length(problem.y)
        # The likelihood's loss is relative to the variance: its logarithm comes back in `exported`.
        self.error_scale = math.log(float(problem.y.var(axis=0).mean()))
        self.likely = settings["loss"] == "likelihood"
        self.skip = nn.Linear(start.d_in, start.d_out)
        hidden = [layer for each in pairwise((start.d_in, *WIDTHS)) for layer in _hidden(*each)]
        self.layers = nn.Sequential(*hidden, nn.Linear(WIDTHS[-1], start.d_out + self.likely))
        with torch.no_grad():
            # Divided by both scales, since the network takes scaled inputs and gives scaled
            # outputs.
            self.skip.weight.copy_(torch.from_numpy(start.weight.T / self.x_scale / self.y_scale))
            self.skip.bias.copy_(torch.from_numpy(start.bias / self.y_scale))
            for parameter in self.layers[-1].parameters():
                # With a last layer of zeros the untrained network is the ridge solution exactly.
                parameter.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Compute (n, d_in) -> (n, d_out) or (n, d_out + 1), in units of the targets' length."""
        x = x * self.x_scale
        corrected, line = self.layers(x), self.skip(x)
        if not self.likely:
            return cast("Tensor", corrected + line)
        # The log-variance has no linear part.
        return cast("Tensor", corrected + nn.functional.pad(line, (0, 1)))

    def exported(self) -> FittedMap:
        """Copy the present parameters out, the scales folded into them."""
        # Scales fold into the outer layers: numpy then applies the map to vectors as they are.
        (first, *middle, last), d_out = _folded(self.layers), self.skip.out_features
        first = (first[0] * np.float32(self.x_scale), first[1])
        skip = _numpy(self.skip.weight.T) * np.float32(self.x_scale * self.y_scale)
        scale = np.float32(self.y_scale)
        weight, bias = last[0][:, :d_out] * scale, last[1][:d_out] * scale
        bias = bias + _numpy(self.skip.bias) * scale
        mapped = _mlp(skip, [first, *middle, (weight, bias)])
        if not self.likely:
            return FittedMap(mapped)
        level = last[1][d_out:] + np.float32(self.error_scale)
        none = np.zeros((len(skip), 1), np.float32)
        # The head shares the hidden layers of the map, but the artefact keeps both apart.
        head = _mlp(none, [first, *middle, (last[0][:, d_out:], level)])
        return FittedMap(mapped, HeteroscedasticHead(head))


class TwoBranch(nn.Module):
    """FCT's network: one branch each for old and side vector, joined by a trunk."""

    def __init__(self, problem: Problem, settings: Settings) -> None:  # noqa: ARG002
        super().__init__()
        d_out, self.d_in, self.side = problem.y.shape[1], problem.x.shape[1], problem.side
        self.y_scale = length(problem.y)
        self.inputs = [slice(0, self.d_in - self.side), slice(self.d_in - self.side, self.d_in)]
        if not self.side:
            self.inputs = [slice(0, self.d_in)] * 2
        sizes = [range(self.d_in)[part] for part in self.inputs]
        self.branches = nn.ModuleList(
            nn.Sequential(*_normed(len(size), 2 * len(size)), *_normed(2 * len(size), 2 * d_out))
            for size in sizes
        )
        self.trunk = nn.Sequential(
            *_normed(4 * d_out, HIDDEN), *_normed(HIDDEN, HIDDEN), nn.Linear(HIDDEN, d_out)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Compute (n, d_in) -> (n, d_out), in units of the targets' length."""
        parts = [
            branch(x[:, part]) for branch, part in zip(self.branches, self.inputs, strict=True)
        ]
        return cast("Tensor", self.trunk(torch.cat(parts, dim=1)))

    def exported(self) -> FittedMap:
        """Fold batch norms and lay the branches side by side in one network."""
        left, right = (_folded(cast("nn.Sequential", branch)) for branch in self.branches)
        *trunk, (weight, bias) = _folded(self.trunk)
        # Zero blocks keep the branches apart, so two branches are one wider network to numpy.
        first = np.zeros((self.d_in, left[0][0].shape[1] + right[0][0].shape[1]), np.float32)
        first[self.inputs[0], : left[0][0].shape[1]] = left[0][0]
        first[self.inputs[1], left[0][0].shape[1] :] = right[0][0]
        joined = [
            (first, np.concatenate([left[0][1], right[0][1]])),
            (_diagonal(left[1][0], right[1][0]), np.concatenate([left[1][1], right[1][1]])),
        ]
        scale = np.float32(self.y_scale)
        skip = np.zeros((self.d_in, weight.shape[1]), np.float32)
        return FittedMap(_mlp(skip, [*joined, *trunk, (weight * scale, bias * scale)]))


NETWORKS: dict[str, Callable[[Problem, Settings], Residual | TwoBranch]] = {
    "residual": Residual,
    "two_branch": TwoBranch,
}
"""Networks by name."""


def length(vectors: Vectors) -> float:
    """Compute the root mean squared length of the rows; 1 in a cosine space."""
    return float(np.sqrt(np.mean(np.square(vectors).sum(axis=1)))) or 1.0


def _rounds(
    problem: Problem,
    network: Residual | TwoBranch,
    objective: Objective,
    settings: Settings,
) -> Iterable[int]:
    """Train in place; yields when the network should be measured: untrained, and after each round.

    A training of one round is only measured at its end: short as it is, it may not have come back
    to the level it started from, and still tell which settings learn most.
    """
    x = torch.from_numpy(problem.x)
    y = torch.from_numpy(problem.y / np.float32(network.y_scale))
    epochs, noise = int(settings["epochs"]), float(settings["noise"]) * length(problem.x)
    # See MIN_STEPS: few pairs take smaller batches rather than fewer steps.
    batch = min(MAX_BATCH, max(64, len(x) // MIN_STEPS))
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, epochs * math.ceil(len(x) / batch), pct_start=0.15
    )
    rounds = math.ceil(epochs / ROUND)
    ends = {round(epochs * (part + 1) / rounds) for part in range(rounds)}
    network.eval()
    # An untrained estimate of the error must not be chosen.
    if rounds > 1 and settings["loss"] != "likelihood":
        yield 0
    for epoch in range(1, epochs + 1):
        network.train()
        for rows in torch.split(torch.randperm(len(x)), batch):
            if len(rows) == 1:
                continue  # one row has no batch statistics, and schedules allow a step too few
            inputs = x[rows] + noise * torch.randn(len(rows), x.shape[1]) if noise else x[rows]
            loss = objective(network(inputs), x[rows], y[rows], rows)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
        network.eval()
        if epoch in ends:
            yield epoch


def _hidden(d_in: int, d_out: int) -> list[nn.Module]:
    return [nn.Linear(d_in, d_out), nn.GELU(approximate="tanh"), nn.Dropout(DROPOUT)]


def _normed(d_in: int, d_out: int) -> list[nn.Module]:
    return [nn.Linear(d_in, d_out), nn.BatchNorm1d(d_out), nn.GELU(approximate="tanh")]


def _folded(layers: nn.Sequential) -> list[tuple[Vectors, Vectors]]:
    """Return weights (d_in, d_out) and biases of linear layers, batch norms folded in."""
    found: list[tuple[Vectors, Vectors]] = []
    for layer in layers:
        if isinstance(layer, nn.Linear):
            found.append((_numpy(layer.weight.T), _numpy(layer.bias)))
        elif isinstance(layer, nn.BatchNorm1d):
            mean, variance = cast("Tensor", layer.running_mean), cast("Tensor", layer.running_var)
            # (z - mean) / sqrt(var + eps) * weight + bias is linear in z = x W + b while
            # evaluating.
            factor = _numpy(layer.weight / (variance + layer.eps).sqrt())
            weight, bias = found.pop()
            shift = (bias - _numpy(mean)) * factor + _numpy(layer.bias)
            found.append((weight * factor, cast("Vectors", shift)))
    return found


def _diagonal(left: Vectors, right: Vectors) -> Vectors:
    joined = np.zeros((len(left) + len(right), left.shape[1] + right.shape[1]), np.float32)
    joined[: len(left), : left.shape[1]] = left
    joined[len(left) :, left.shape[1] :] = right
    return joined


def _mlp(skip: Vectors, layers: list[tuple[Vectors, Vectors]]) -> Mlp:
    weights, biases = zip(*layers, strict=True)
    return Mlp(skip, weights, biases)


def _numpy(tensor: Tensor) -> Vectors:
    return cast("Vectors", tensor.detach().numpy().copy())
