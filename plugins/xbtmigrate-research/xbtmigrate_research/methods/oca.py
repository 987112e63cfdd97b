"""OCA: more coordinates for the new model, of which the first ones are the old space.

Ricci, Biondi, Pernici, Del Bimbo, "Backward-Compatible Aligned Representations via an Orthogonal
Transformation Layer", ECCV workshops 2024, arXiv 2408.08793. The representation z has coordinates
beyond the old ones. Its first coordinates are aligned to the old prototypes c, by a cross-entropy
and by their cosine; Q z, with Q orthogonal and learned, is trained on the new classes. Searches use
z, and old vectors are filled up with zeros. In the authors' code the three terms weigh 5, 10 and 5.

Changed: the classes are the points, so c is the stored vector, and the new classifier consists of
the frozen model's vectors, filled up with zeros: Q leads from z to its space. z is at least as long
as these.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.parametrizations import orthogonal

from xbtmigrate_research.heads import (
    EPOCHS,
    NEEDS,
    SERVED,
    Batch,
    Head,
    Training,
    answer_by_head,
    contrast,
    dimensions,
    influence_loss,
    train_head,
)
from xbtmigrate_research.method import Method, Outcome
from xbtmigrate_research.trial import Trial

EXTRA = 32
"""Coordinates beyond the old ones, at least."""
ALIGNMENT, COSINE = 2.0, 1.0
"""Weights of the terms that hold z to the old space; that of the new classes is 1."""


def run(trial: Trial) -> Outcome:
    """Train a head with more coordinates than the old model has, and Q behind it."""
    d_new, d_old = dimensions(trial)
    size = max(d_old + EXTRA, d_new)
    new = pad(torch.from_numpy(trial.corpus.new[trial.rows]), (0, size - d_new))

    def make() -> Training:
        head = Head(d_new, size)
        turn = orthogonal(nn.Linear(size, size, bias=False), orthogonal_map="cayley")

        def loss(batch: Batch) -> Tensor:
            classes = new[batch.rows]
            asked, point = (contrast(turn(z), classes) for z in (batch.asked, batch.point))
            cosine = (batch.point_in_old * batch.old).sum(dim=1)
            held = ALIGNMENT * influence_loss(batch) + COSINE * (1 - cosine).mean()
            return (asked + point) / 2 + held

        return Training(head, loss, turn.parameters())

    return answer_by_head(trial, train_head(trial, make))


METHODS = (
    Method(
        "oca", "Ricci et al., ECCV workshops 2024, 2408.08793", run, NEEDS, SERVED, beside="bct",
        epochs=EPOCHS, compatible=True,
    ),
)  # fmt: skip
