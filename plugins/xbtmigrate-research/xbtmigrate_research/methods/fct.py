"""FCT: map the stored vectors forward, at the size and length of the paper.

Ramanujan et al., "Forward Compatible Training for Large-Scale Embedding Retrieval Systems", CVPR
2022, arXiv 2112.02805. With o the stored vector, s its side-information and n the new vector of a
point, minimise |n - h(o, s)|^2; h has a branch d -> 2d -> 2d_new for each input, and a trunk 4d_new
-> 2048 -> 2048 -> d_new, of linear layers with batch norm and ReLU. Adam at 5e-4, weight decay
2^-15, 80 epochs, 5 of them warm-up, then cosine; batch norms are frozen in the second half. Without
side-information the old vector feeds both branches.

Changed: batches of at most 256 rather than 1,024, as there are thousands of pairs and not a
million; vectors are of unit length, scaled so that coordinates are near one; matrix products are
rounded to bfloat16 in training, where the processor has it. Side-information is the words of the
text embedded by the new model (`fct_words`) or the text's TF-IDF reduced by SVD (`fct_lexical`);
`fct_simclr` has the paper's own, a 128-d SimCLR vector of the image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from xbtmigrate.types import Direction, Vectors
from xbtmigrate_research.method import Claim, Method, Needs, Outcome, Share, answer_in_new
from xbtmigrate_research.optimise import (
    Recipe,
    choose_batch,
    freeze_norms,
    mapped,
    minimise,
    rounded_products,
    seeded,
)
from xbtmigrate_research.trial import Trial

TRUNK = 2048
EPOCHS = 80
RATE = 5e-4
DECAY = 2.0**-15
WARMUP = 5
SOURCE = "Ramanujan et al., CVPR 2022, 2112.02805"
SIDE_CLAIM = Claim(Share.GAP, "85 % (CMC@1, ImageNet, SimCLR vectors)")


class ForwardNetwork(nn.Module):
    """h(o, s); the first `d_old` coordinates of an input are the old vector.

    Args:
        d_old: Length of the stored vectors.
        d_side: Length of the side vectors; 0 for none.
        d_new: Length of the new vectors.
        extra: Outputs beside the mapped vector.
        trunk: Width of the trunk.
    """

    def __init__(
        self, d_old: int, d_side: int, d_new: int, *, extra: int = 0, trunk: int = TRUNK
    ) -> None:
        super().__init__()
        self.d_old, self.d_side = d_old, d_side
        self.old, self.side = (
            nn.Sequential(*normed(size, 2 * size), *normed(2 * size, 2 * d_new))
            for size in (d_old, d_side or d_old)
        )
        self.trunk = nn.Sequential(
            *normed(4 * d_new, trunk), *normed(trunk, trunk), nn.Linear(trunk, d_new + extra)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Compute (n, d_old + d_side) -> (n, d_new + extra)."""
        old = x[:, : self.d_old]
        side = x[:, self.d_old :] if self.d_side else old
        joined = torch.cat(
            [self.old(old * self.d_old**0.5), self.side(side * side.shape[1] ** 0.5)], dim=1
        )
        found: Tensor = self.trunk(joined)
        return found


def normed(d_in: int, d_out: int) -> list[nn.Module]:
    """Return a linear layer with batch norm and ReLU."""
    return [nn.Linear(d_in, d_out), nn.BatchNorm1d(d_out), nn.ReLU()]


@dataclass(frozen=True, slots=True)
class Inputs:
    """Stored vectors with side vectors beside them, and the rows with a new vector.

    Attributes:
        x: Inputs of all points, (m, d_old + d_side).
        d_side: Length of the side vectors.
    """

    x: Vectors
    d_side: int

    @classmethod
    def of(cls, trial: Trial, block: str | None) -> Inputs:
        """Put a block of the text's side vector, or nothing, beside the stored vectors."""
        if block is None:
            return cls(trial.corpus.old, 0)
        side = trial.text_sides[Direction.FORWARD]
        start = 0
        for name, size in side.sizes.items():
            if name == block:
                found = trial.sides[Direction.FORWARD][:, start : start + size]
                return cls(np.concatenate([trial.corpus.old, found], axis=1), size)
            start += size
        raise KeyError(block)


def train_forward(
    trial: Trial,
    inputs: Inputs,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    *,
    extra: int = 0,
    trunk: int = TRUNK,
) -> ForwardNetwork:
    """Train h on the pairs of a trial.

    Args:
        trial: Pairs, seed and length.
        inputs: Inputs of all points.
        loss_of: Maps outputs (n, d_new + extra) and new vectors (n, d_new), both in units of a
            coordinate, to a loss.
        extra: Outputs beside the mapped vector.
        trunk: Width of the trunk.
    """
    rows, corpus = trial.rows, trial.corpus
    d_new = corpus.new.shape[1]
    with seeded(trial.seed), rounded_products():
        network = ForwardNetwork(
            corpus.old.shape[1], inputs.d_side, d_new, extra=extra, trunk=trunk
        )
        x = torch.from_numpy(inputs.x[rows])
        y = torch.from_numpy(corpus.new[rows]) * d_new**0.5
        epochs = trial.cut(EPOCHS)

        def prepare(epoch: int) -> None:
            network.train()
            if 2 * epoch >= epochs:
                freeze_norms(network)

        # A shortened training has a shorter warm-up.
        recipe = Recipe(epochs, choose_batch(len(x)), RATE, DECAY, WARMUP * epochs / EPOCHS)
        minimise(
            network.parameters(), lambda at: loss_of(network(x[at]), y[at]), len(x), recipe, prepare
        )
    return network


def squared_error(outputs: Tensor, y: Tensor) -> Tensor:
    """|n - h(o, s)|^2, mean over coordinates and rows."""
    return (outputs - y).square().mean()


def run(trial: Trial, block: str | None = None, trunk: int = TRUNK) -> Outcome:
    """Train and map the gallery."""
    inputs = Inputs.of(trial, block)
    network = train_forward(trial, inputs, squared_error, trunk=trunk)
    return answer_in_new(trial, mapped(network, inputs.x))


METHODS = (
    Method(
        "fct", SOURCE, run, Needs(), "forward, kind `fct`, smaller", beside="forward_ridge",
        epochs=EPOCHS,
        claim=Claim(Share.GAP, "70 % (CMC@1, ImageNet)"),
    ),
    Method(
        "fct_words", SOURCE, partial(run, block="words"), Needs(),
        "forward, kind `fct` with words, smaller", beside="fct", epochs=EPOCHS,
        corpora=("debian", "neural"),
        claim=SIDE_CLAIM,
    ),
    Method(
        "fct_lexical", SOURCE, partial(run, block="lexical"), Needs(),
        "forward, kind `fct` with `qdrant.side_vector`, smaller", beside="fct", epochs=EPOCHS,
        corpora=("debian", "neural"),
        claim=SIDE_CLAIM,
    ),
)  # fmt: skip
