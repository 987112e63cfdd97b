"""Prototype perturbation: align to old prototypes that were first moved apart.

Zhou, Sun et al., "Prototype Perturbation for Relaxing Alignment Constraints in Backward-Compatible
Learning", 2025, arXiv 2503.14824. Where old prototypes crowd together, aligning to them costs the
new model what it can tell apart. NDPP moves each away from its neighbours before the alignment:
p' = unit(p + eps sum_j s_j (p - p_j)), over the nearest j in the old and in the new space.

Changed: the classes are the points, and prototypes their stored vectors; the influence loss of BCT
is the alignment. The paper's weights s_j and its size of the step were not at hand: neighbours
count alike, and the step is EPSILON long. Its second way to find the perturbations, by gradient
(ODPP), is left out.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from xbtmigrate_research.heads import (
    EPOCHS,
    NEEDS,
    SERVED,
    Head,
    Training,
    answer_by_head,
    dimensions,
    influence_loss,
    new_loss,
    train_head,
)
from xbtmigrate_research.method import Method, Outcome
from xbtmigrate_research.trial import Trial

NEIGHBOURS = 10
EPSILON = 0.3


def perturb(old: Tensor, new: Tensor) -> Tensor:
    """Move each old prototype away from its neighbours.

    Args:
        old: Old prototypes, unit length, (n, d_old).
        new: New prototypes of the same classes, unit length, (n, d_new).

    Returns:
        Unit length, (n, d_old).
    """
    away = torch.zeros_like(old)
    for space in (old, new):
        near = (space @ space.T).fill_diagonal_(-torch.inf)
        found = near.topk(min(NEIGHBOURS, len(old) - 1), dim=1).indices
        away = away + old - old[found].mean(dim=1)
    return normalize(old + EPSILON * normalize(away))


def run(trial: Trial) -> Outcome:
    """Train a head on perturbed prototypes."""
    corpus, rows = trial.corpus, trial.rows
    moved = perturb(*(torch.from_numpy(each[rows]) for each in (corpus.old, corpus.new)))
    head = train_head(
        trial,
        lambda: Training(
            Head(*dimensions(trial)),
            lambda b: new_loss(b) + influence_loss(replace(b, old=moved[b.rows])),
        ),
    )
    return answer_by_head(trial, head)


METHODS = (
    Method(
        "prototype_perturbation", "Zhou, Sun et al. 2025, 2503.14824", run, NEEDS, SERVED,
        beside="bct", epochs=EPOCHS, compatible=True,
    ),
)  # fmt: skip
