"""OCA: more coordinates for the new model, of which the first ones are the old space.

Ricci, Biondi, Pernici, Del Bimbo, "Backward-Compatible Aligned Representations via an Orthogonal
Transformation Layer", ECCV workshops 2024, arXiv 2408.08793. The representation z has coordinates
beyond the old ones. Its first coordinates are aligned to old prototypes by a cross-entropy; Q z,
with Q orthogonal and learned, is trained on the new classes. Searches use z, and old vectors are
filled up with zeros.

Changed: the classes are the points. Questions and points both pass through Q, and Qa.Qb = a.b, so
it drops out of the loss and is left out: what remains of the method is the expansion.
"""

from __future__ import annotations

from torch import Tensor

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
    new_loss,
    train_head,
)
from xbtmigrate_research.method import Method, Outcome
from xbtmigrate_research.trial import Trial

EXTRA = 128
"""Coordinates beyond the old ones."""


def loss(batch: Batch) -> Tensor:
    """Train all coordinates on the questions, and the first ones on the stored vectors."""
    return new_loss(batch) + contrast(batch.asked_in_old, batch.old)


def run(trial: Trial) -> Outcome:
    """Train a head with more coordinates than the old model has."""
    d_new, d_old = dimensions(trial)
    head = train_head(trial, lambda: Training(Head(d_new, d_old + EXTRA), loss))
    return answer_by_head(trial, head)


METHODS = (
    Method(
        "oca", "Ricci et al., ECCV workshops 2024, 2408.08793", run, NEEDS, SERVED, beside="bct",
        epochs=EPOCHS,
    ),
)  # fmt: skip
