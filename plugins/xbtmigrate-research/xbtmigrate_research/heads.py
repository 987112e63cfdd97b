"""New models that are trained to be compatible: a small head on the frozen new model.

The features x of the frozen model are its vectors; the head makes phi(x) of them, and is trained on
(question, point) pairs so that phi(question) is near phi(point), and near the stored vector of the
point where a method says so. Papers train a whole network on classes; here the classes are the
points, each with one question, as in CLIP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from xbtmigrate.evaluation.mixed_gallery import Single
from xbtmigrate.evaluation.retrieval import SearchSpace
from xbtmigrate.types import Channel
from xbtmigrate_research.method import Backfill, Needs, Outcome
from xbtmigrate_research.optimise import Recipe, choose_batch, mapped, minimise, seeded
from xbtmigrate_research.trial import Trial

NEEDS = Needs(labels=True, encoder=True)
SERVED = "kind `compatible`: no backfill"
WIDTH = 512
DROPOUT = 0.1
"""Of features: where points ask for themselves it makes the two views differ (SimCSE)."""
TEMPERATURE = 0.05
EPOCHS = 30
"""As in AdvBCT's code; the other papers train whole networks, for as long as these take."""


class Head(nn.Module):
    """phi(x): a linear map corrected by a hidden layer.

    Args:
        d_in: Length of the features.
        d_out: Length of the vectors that are stored.
    """

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(DROPOUT)
        self.line = nn.Linear(d_in, d_out)
        self.bend = nn.Sequential(nn.Linear(d_in, WIDTH), nn.GELU(), nn.Linear(WIDTH, d_out))

    def forward(self, x: Tensor) -> Tensor:
        """Compute (n, d_in) -> (n, d_out)."""
        # Coordinates near one, where GELU bends.
        x = self.dropout(x * x.shape[1] ** 0.5)
        found: Tensor = self.line(x) + self.bend(x)
        return found


@dataclass(frozen=True, slots=True)
class Batch:
    """What a loss sees of n pairs; vectors of unit length.

    Attributes:
        asked: phi of the questions, (n, d_out).
        point: phi of the points, (n, d_out).
        old: Stored vectors of the points, (n, d_old).
        rows: Their numbers among the pairs, (n,).
    """

    asked: Tensor
    point: Tensor
    old: Tensor
    rows: Tensor

    @property
    def asked_in_old(self) -> Tensor:
        """The coordinates of the questions that are compared with stored vectors, (n, d_old)."""
        return normalize(self.asked[:, : self.old.shape[1]])

    @property
    def point_in_old(self) -> Tensor:
        """The same of the points."""
        return normalize(self.point[:, : self.old.shape[1]])


Loss = Callable[[Batch], Tensor]


def contrast(queries: Tensor, gallery: Tensor) -> Tensor:
    """InfoNCE (van den Oord et al. 2018): query i is answered by row i, and by no other."""
    return cross_entropy(queries @ gallery.T / TEMPERATURE, torch.arange(len(queries)))


def new_loss(batch: Batch) -> Tensor:
    """What the new model is trained by without any old one, in both directions."""
    return (contrast(batch.asked, batch.point) + contrast(batch.point, batch.asked)) / 2


def influence_loss(batch: Batch) -> Tensor:
    """BCT's: new vectors are classified by the old ones, which stay as they are."""
    return (contrast(batch.asked_in_old, batch.old) + contrast(batch.point_in_old, batch.old)) / 2


@dataclass(frozen=True, eq=False)
class Training:
    """A head and how it is trained.

    Attributes:
        head: Maps features to vectors.
        loss: What is minimised.
        extra: Parameters beside the head's.
    """

    head: nn.Module
    loss: Loss
    extra: Iterable[nn.Parameter] = field(default=())


def train_head(trial: Trial, make: Callable[[], Training]) -> nn.Module:
    """Train from the trial's seed and return the head.

    Args:
        trial: Pairs, seed and length.
        make: Makes head and loss; called once the seed is set.
    """
    rows, corpus = trial.rows, trial.corpus
    asked, point, old = (
        torch.from_numpy(each[rows]) for each in (corpus.questions[1], corpus.new, corpus.old)
    )
    with seeded(trial.seed):
        training = make()
        head = training.head.train()

        def loss_of(at: Tensor) -> Tensor:
            phi_asked, phi_point = (normalize(head(each[at])) for each in (asked, point))
            return training.loss(Batch(phi_asked, phi_point, old[at], at))

        parameters = [*head.parameters(), *training.extra]
        recipe = Recipe(trial.cut(EPOCHS), choose_batch(len(rows)), warmup=1)
        minimise(parameters, loss_of, len(rows), recipe)
    return head


def answer_by_head(trial: Trial, head: nn.Module) -> Outcome:
    """Search stored vectors, and vectors of the head, by queries of the head."""
    corpus = trial.corpus
    queries, gallery = mapped(head, corpus.asked_new), mapped(head, corpus.new)
    # Stored vectors are zero where the new model has coordinates that the old one lacks.
    padded = np.pad(corpus.old, ((0, 0), (0, queries.shape[1] - corpus.old.shape[1])))
    across, own = SearchSpace(queries, padded), SearchSpace(queries, gallery)
    backfill = Backfill({Channel.FORWARD: across, Channel.NEW: own}, Single())
    return Outcome(across, own, backfill)


def dimensions(trial: Trial) -> tuple[int, int]:
    """Return the lengths of new and of stored vectors."""
    return trial.corpus.new.shape[1], trial.corpus.old.shape[1]
