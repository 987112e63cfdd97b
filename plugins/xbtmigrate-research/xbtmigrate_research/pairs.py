"""Small maps that are trained on pairs of vectors: what several methods share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from xbtmigrate.types import Vectors
from xbtmigrate_research.optimise import Recipe, choose_batch, minimise, seeded
from xbtmigrate_research.trial import Trial


def to_old(trial: Trial) -> tuple[Vectors, Vectors]:
    """Pair new vectors with stored ones: what a map of queries learns from.

    Queries for pictures are texts, so there a caption is paired with its picture.
    """
    corpus, rows = trial.corpus, trial.rows
    inputs = corpus.questions[1] if corpus.pictures else corpus.new
    return inputs[rows], corpus.old[rows]


def to_new(trial: Trial) -> tuple[Vectors, Vectors]:
    """Pair stored vectors with new ones: what a map of the gallery learns from."""
    return trial.corpus.old[trial.rows], trial.corpus.new[trial.rows]


def train_map(
    trial: Trial,
    pairs: tuple[Vectors, Vectors],
    make: Callable[[], nn.Module],
    loss_of: Callable[[Tensor, Tensor, Tensor], Tensor],
    *,
    epochs: int,
    rate: float = 1e-3,
    decay: float = 0.0,
) -> nn.Module:
    """Train a map from the trial's seed.

    Args:
        trial: Seed and length.
        pairs: Inputs (n, d_in) and targets (n, d_out).
        make: Makes the map, once the seed is set.
        loss_of: Maps outputs, targets and their rows to a loss.
        epochs: As published; the trial may cut them.
        rate: Highest learning rate.
        decay: Weight decay.
    """
    x, y = map(torch.from_numpy, pairs)
    with seeded(trial.seed):
        network = make().train()
        recipe = Recipe(trial.cut(epochs), choose_batch(len(x)), rate, decay, warmup=1)
        minimise(
            network.parameters(), lambda at: loss_of(network(x[at]), y[at], at), len(x), recipe
        )
    return network
