"""The losses of networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from xbtmigrate.training.pairs import PairSource
from xbtmigrate.training.problem import Problem, Settings
from xbtmigrate.types import Direction

Objective: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Maps a batch of outputs, inputs, targets and their rows in the problem to a loss."""

TEMPERATURE = 0.04
ALIGNMENT = 1.0
"""Weight of the distance to the target beside a contrastive loss, whose weight is 1: without it a
projected gallery ranks well alone, but worse among true new vectors."""
ACROSS = 0.1
"""The same where one side of the pairs is an image and the other its caption: these are not meant
to be near each other."""


def objective_of(problem: Problem, settings: Settings) -> Objective:
    """Make the objective that the settings name."""
    near = distance_of(problem)
    bridge = problem.direction is Direction.BRIDGE
    alignment = ACROSS if problem.source is PairSource.CAPTION_IMAGE else ALIGNMENT

    def distance(outputs: Tensor, x: Tensor, y: Tensor, rows: Tensor) -> Tensor:  # noqa: ARG001
        return near(outputs, y).mean()

    def contrastive(outputs: Tensor, x: Tensor, y: Tensor, rows: Tensor) -> Tensor:  # noqa: ARG001
        # InfoNCE in the direction of the search to come: its negatives are what will be searched.
        queries, gallery = (normalize(outputs), y) if bridge else (y, normalize(outputs))
        logits = queries @ gallery.T / TEMPERATURE
        return cross_entropy(logits, torch.arange(len(y))) + alignment * near(outputs, y).mean()

    def pooled(outputs: Tensor, x: Tensor, y: Tensor, rows: Tensor) -> Tensor:  # noqa: ARG001
        across = normalize(outputs) @ y.T / TEMPERATURE
        within = normalize(x) @ normalize(x).T / TEMPERATURE
        # A query is not a negative of itself.
        within = within.masked_fill(torch.eye(len(x), dtype=torch.bool), -torch.inf)
        logits = torch.cat([across, within], dim=1)
        return cross_entropy(logits, torch.arange(len(y))) + alignment * near(outputs, y).mean()

    def likelihood(outputs: Tensor, x: Tensor, y: Tensor, rows: Tensor) -> Tensor:  # noqa: ARG001
        return likelihood_of(near(outputs[:, :-1], y), outputs[:, -1])

    named = {
        "distance": distance,
        "contrastive": contrastive,
        "pooled": pooled,
        "likelihood": likelihood,
    }
    return named[str(settings["loss"])]


def distance_of(problem: Problem) -> Callable[[Tensor, Tensor], Tensor]:
    """Make the squared distance of outputs to targets, each (n, d), row by row, shape (n,).

    It is in units of the targets' variance; between the unit vectors of a cosine space it is the
    cosine loss, 2 - 2 cos.
    """
    y = torch.from_numpy(problem.y)
    # Relative to the targets' length, which the network's outputs are in units of.
    variance = float(y.var(dim=0).sum() / y.square().sum(dim=1).mean())

    def distance(outputs: Tensor, targets: Tensor) -> Tensor:
        outputs = normalize(outputs) if problem.cosine else outputs
        return (outputs - targets).square().sum(dim=1) / variance

    return distance


def likelihood_of(losses: Tensor, s: Tensor) -> Tensor:
    """Compute FastFill's mean(exp(-s) l / 2 + s / 2), least where exp(s) is the expected loss l."""
    return ((-s).exp() * losses / 2 + s / 2).mean()
