"""The losses that networks are trained by."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from xbtmigrate.training.kinds.neural import BY_LABEL
from xbtmigrate.training.pairs import PairSource
from xbtmigrate.training.problem import Problem, Settings
from xbtmigrate.types import Direction

Objective: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""From a batch of outputs, inputs, targets and their rows in the problem to one number."""

TEMPERATURE = 0.04
ALIGNMENT = 1.0
"""Weight of the distance to the target beside a contrastive loss, whose weight is 1: without it a
projected gallery ranks well alone, but worse among true new vectors."""
ACROSS = 0.1
"""The same where one side of the pairs is an image and the other its caption: these are not meant
to be near each other."""
SMOOTHING = 0.1
LLOYD_STEPS = 10


def objective_of(problem: Problem, settings: Settings) -> Objective:
    """Make the objective that the settings name.

    The distance to the target is in units of the targets' variance; between the unit vectors of a
    cosine space it is the cosine loss, 2 - 2 cos.
    """
    y = torch.from_numpy(problem.y)
    # Relative to the targets' length, which the network's outputs are in units of.
    variance = float(y.var(dim=0).sum() / y.square().sum(dim=1).mean())
    near = partial(_distances, cosine=problem.cosine, variance=variance)
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
        mapped, s = outputs[:, :-1], outputs[:, -1]
        losses = near(mapped, y) + discriminate(mapped, rows)
        # FastFill: mean(exp(-s) l / 2 + s / 2), least where exp(s) is the expected loss.
        return ((-s).exp() * losses / 2 + s / 2).mean()

    discriminate = _discrimination(problem, settings.get("classes", 0))
    named = {
        "distance": distance,
        "contrastive": contrastive,
        "pooled": pooled,
        "likelihood": likelihood,
    }
    return named[str(settings["loss"])]


def _distances(outputs: Tensor, targets: Tensor, *, cosine: bool, variance: float) -> Tensor:
    """Compute the squared distance of each row to its target, shape (n,)."""
    outputs = normalize(outputs) if cosine else outputs
    return (outputs - targets).square().sum(dim=1) / variance


def _discrimination(
    problem: Problem, classes: float | str
) -> Callable[[Tensor, Tensor], Tensor | float]:
    """Make FastFill's cross-entropy on h(o), 0 for pairs without a class.

    The new model's own classifier is the nearest mean of a class: of the pairs' labels, or of
    clusters of the new vectors where there are no labels.
    """
    if not classes:
        return lambda *_: 0.0
    y = normalize(torch.from_numpy(problem.y))
    if classes == BY_LABEL and problem.labels is not None:
        labels = torch.from_numpy(problem.labels)
        known = labels >= 0
        sums = torch.zeros(int(labels.max()) + 1, y.shape[1])
        centres = normalize(sums.index_add_(0, labels[known], y[known]))
    else:
        centres = _centres(y, int(classes), problem.seed)
        labels = (y @ centres.T).argmax(dim=1)

    def loss(mapped: Tensor, rows: Tensor) -> Tensor:
        logits = normalize(mapped) @ centres.T / TEMPERATURE
        return cross_entropy(
            logits, labels[rows], reduction="none", label_smoothing=SMOOTHING, ignore_index=-1
        )

    return loss


def _centres(y: Tensor, classes: int, seed: int) -> Tensor:
    """Cluster unit vectors by their cosine (spherical k-means, Dhillon & Modha 2001)."""
    generator = torch.Generator().manual_seed(seed)
    centres = y[torch.randperm(len(y), generator=generator)[:classes]]
    for _ in range(LLOYD_STEPS):
        nearest = (y @ centres.T).argmax(dim=1)
        # The last summand leaves the centre of an empty cluster where it is.
        centres = normalize(torch.zeros_like(centres).index_add_(0, nearest, y) + 1e-6 * centres)
    return centres
