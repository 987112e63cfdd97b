"""Asymmetric feature fusion: a gallery vector made of several, for queries by one model.

Wu et al., "Asymmetric Feature Fusion for Image Retrieval", CVPR 2023, arXiv 2403.00671. Several
features of a gallery item pass through a mixer with attention and become one vector g, trained by a
classification whose classifier, updated with momentum, also trains the query model.

Changed: the query model is the frozen new model, so the mixer alone is trained, by a contrast
between questions and fused vectors in place of classes. The features are what a collection has:
the stored vector, its projection by ridge, and where there are texts their words embedded by the
new model. The mixer is one layer of attention from a learned token.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from xbtmigrate.types import Direction, Vectors
from xbtmigrate_research.heads import contrast
from xbtmigrate_research.method import Method, Needs, Outcome, answer_in_new
from xbtmigrate_research.optimise import mapped
from xbtmigrate_research.pairs import train_map
from xbtmigrate_research.trial import Trial

EPOCHS = 30
HEADS = 4


class Mixer(nn.Module):
    """Attention from a learned token over the features, each brought to the new length.

    Args:
        sizes: Lengths of the features, in the order in which inputs hold them.
        d_new: Length of new vectors; a multiple of HEADS.
    """

    def __init__(self, sizes: list[int], d_new: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.lines = nn.ModuleList(nn.Linear(size, d_new) for size in sizes)
        self.token = nn.Parameter(torch.zeros(1, 1, d_new))
        self.attention = nn.MultiheadAttention(d_new, HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Compute (n, sum of sizes) -> (n, d_new)."""
        parts = torch.split(x, self.sizes, dim=1)
        tokens = torch.stack([f(part) for f, part in zip(self.lines, parts, strict=True)], dim=1)
        mixed, _ = self.attention(self.token.expand(len(x), -1, -1), tokens, tokens)
        fused: Tensor = mixed[:, 0] + tokens.mean(dim=1)
        return fused


def features(trial: Trial) -> list[Vectors]:
    """Collect what a collection knows of its points without the new model, each (m, d)."""
    corpus = trial.corpus
    ridge = trial.fit(Direction.FORWARD, ["ridge"]).projector
    found = [corpus.old, ridge.apply(corpus.old)]
    if Direction.FORWARD in trial.text_sides:
        size = trial.text_sides[Direction.FORWARD].sizes["words"]
        found.append(trial.sides[Direction.FORWARD][:, :size])
    return found


def run(trial: Trial) -> Outcome:
    """Train the mixer and fuse the gallery."""
    corpus, rows = trial.corpus, trial.rows
    given = features(trial)
    x = np.ascontiguousarray(np.concatenate(given, axis=1))
    asked = torch.from_numpy(corpus.questions[1][rows])

    def loss(outputs: Tensor, y: Tensor, at: Tensor) -> Tensor:
        fused = normalize(outputs)
        return contrast(asked[at], fused) + (fused - y).square().sum(dim=1).mean()

    network = train_map(
        trial,
        (x[rows], corpus.new[rows]),
        lambda: Mixer([each.shape[1] for each in given], corpus.new.shape[1]),
        loss,
        epochs=EPOCHS,
    )
    return answer_in_new(trial, mapped(network, x))


METHODS = (
    Method(
        "asymmetric_fusion", "Wu et al., CVPR 2023, 2403.00671", run, Needs(labels=True),
        "forward, kind `gaussian_process` with words", beside="forward_ridge", epochs=EPOCHS,
    ),
)  # fmt: skip
