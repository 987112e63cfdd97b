"""AdvBCT: no critic may tell new vectors from old ones, and none strays from its class.

Pan et al., "Boundary-aware Backward-Compatible Representation via Adversarial Learning in Image
Retrieval", CVPR 2023. Minimise L_new + L_adv + L_b. L_adv is the cross-entropy of a classifier of
old against new vectors, trained against phi by a reversed gradient. L_b = max(0, |phi(x) - c| - r)
keeps a vector within the elastic boundary r = r_min + sigmoid(w) (r_max - r_min) of the old centre
c of its class, with w learned for each class.

Changed: the classes are the points: c is the stored vector, r_min 0, and r_max the distance to the
nearest other stored vector. The critic has two hidden layers instead of four; the weight of L_b is
ours.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from xbtmigrate_research.heads import (
    EPOCHS,
    NEEDS,
    SERVED,
    Batch,
    Head,
    Training,
    answer_by_head,
    dimensions,
    new_loss,
    train_head,
)
from xbtmigrate_research.method import Method, Outcome
from xbtmigrate_research.trial import Trial

WIDTH = 256
WEIGHT = 5.0
"""Of the boundary: a distance is less steep than a cross-entropy over cosines."""


class Reverse(torch.autograd.Function):
    """The identity, with the gradient turned round (Ganin & Lempitsky 2015)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        """Return the input."""
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        """Return the opposite gradient."""
        return -gradient


class Boundary(nn.Module):
    """Both terms beside the new loss.

    Args:
        old: Stored vectors of the pairs, (n, d_old).
    """

    def __init__(self, old: Tensor) -> None:
        super().__init__()
        apart = torch.cdist(old, old)
        self.widest = apart.fill_diagonal_(torch.inf).min(dim=1).values
        self.weight = nn.Parameter(torch.zeros(len(old)))
        self.critic = nn.Sequential(
            nn.Linear(old.shape[1], WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(),
            nn.Linear(WIDTH, 1),
        )  # fmt: skip

    def forward(self, batch: Batch) -> Tensor:
        """Compute L_adv + WEIGHT L_b."""
        radius = self.widest[batch.rows] * torch.sigmoid(self.weight[batch.rows])
        adversarial, boundary = torch.zeros(()), torch.zeros(())
        for phi in (batch.asked_in_old, batch.point_in_old):
            told = self.critic(torch.cat([Reverse.apply(phi), batch.old])).squeeze(1)
            truth = torch.cat([torch.ones(len(phi)), torch.zeros(len(phi))])
            adversarial = adversarial + binary_cross_entropy_with_logits(told, truth) / 2
            distance = (phi - batch.old).norm(dim=1)
            boundary = boundary + torch.relu(distance - radius).mean() / 2
        return adversarial + WEIGHT * boundary


def run(trial: Trial) -> Outcome:
    """Train head, boundaries and critic."""
    old = torch.from_numpy(trial.corpus.old[trial.rows])

    def make() -> Training:
        boundary = Boundary(old)
        return Training(
            Head(*dimensions(trial)),
            lambda batch: new_loss(batch) + boundary(batch),
            boundary.parameters(),
        )

    return answer_by_head(trial, train_head(trial, make))


METHODS = (
    Method(
        "advbct", "Pan et al., CVPR 2023", run, NEEDS, SERVED, beside="bct",
        epochs=EPOCHS, compatible=True,
    ),
)  # fmt: skip
