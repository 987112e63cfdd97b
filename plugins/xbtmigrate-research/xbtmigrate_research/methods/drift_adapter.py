"""Drift-Adapter: a small adapter in front of the old index.

Vejendla, "Drift-Adapter: A Practical Approach to Near Zero-Downtime Embedding Model Upgrades in
Vector Databases", EMNLP 2025, arXiv 2509.23471. Queries q pass through g before they search the
stored vectors; g is trained by the squared error on pairs: a rotation (row `procrustes`), an affine
map U V'q + t of rank 64, or a residual network q + W2 act(W1 q) of width 256, each with a diagonal
scale at its end.

Changed: a linear layer stands for the identity of the residual network, as lengths differ, and
coordinates of queries are standardised first. Pairs of pictures are captions and stored vectors.
The number of epochs is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from xbtmigrate_research.method import Claim, Method, Needs, Outcome, Share, answer_in_old
from xbtmigrate_research.optimise import mapped
from xbtmigrate_research.pairs import to_old, train_map
from xbtmigrate_research.trial import Trial

RANK, WIDTH = 64, 256
EPOCHS = 50
TINY = 1e-6
SOURCE = "Vejendla, EMNLP 2025, 2509.23471"
CLAIM = Claim(Share.FULL, "94 to 99 % (R@10, texts and images)")


class Adapter(nn.Module):
    """g(q), scaled coordinate by coordinate.

    Args:
        inner: The map before the scale.
        x: New vectors of the pairs, (n, d_in).
        d_out: Length of the stored vectors.
    """

    def __init__(self, inner: nn.Module, x: Tensor, d_out: int) -> None:
        super().__init__()
        self.inner, self.scale = inner, nn.Parameter(torch.ones(d_out))
        # Where all vectors point nearly the same way, their differences are learned last.
        self.mean, self.spread = x.mean(dim=0), x.std(dim=0).clamp_min(TINY)

    def forward(self, x: Tensor) -> Tensor:
        """Compute (n, d_in) -> (n, d_out)."""
        found: Tensor = self.inner((x - self.mean) / self.spread) * self.scale
        return found


class ResidualNetwork(nn.Module):
    """W0 q + W2 act(W1 q)."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.line = nn.Linear(d_in, d_out)
        self.bend = nn.Sequential(nn.Linear(d_in, WIDTH), nn.GELU(), nn.Linear(WIDTH, d_out))

    def forward(self, x: Tensor) -> Tensor:
        """Compute (n, d_in) -> (n, d_out)."""
        found: Tensor = self.line(x) + self.bend(x)
        return found


def low_rank(d_in: int, d_out: int) -> nn.Module:
    """U V'q + t."""
    return nn.Sequential(
        nn.Linear(d_in, min(RANK, d_in, d_out), bias=False),
        nn.Linear(min(RANK, d_in, d_out), d_out),
    )


def run(trial: Trial, inner: Callable[[int, int], nn.Module]) -> Outcome:
    """Train an adapter and map the queries."""
    pairs = to_old(trial)
    d_in, d_out = (each.shape[1] for each in pairs)
    network = train_map(
        trial,
        pairs,
        lambda: Adapter(inner(d_in, d_out), torch.from_numpy(pairs[0]), d_out),
        lambda outputs, y, _: (outputs - y).square().sum(dim=1).mean(),
        epochs=EPOCHS,
    )
    return answer_in_old(trial, mapped(network, trial.corpus.asked_new))


METHODS = (
    Method(
        "drift_adapter_low_rank", SOURCE, partial(run, inner=low_rank), Needs(),
        "bridge, kind `low_rank`", beside="procrustes", epochs=EPOCHS, claim=CLAIM,
    ),
    Method(
        "drift_adapter_mlp", SOURCE, partial(run, inner=ResidualNetwork), Needs(),
        "bridge, kind `mlp`", beside="procrustes", epochs=EPOCHS, claim=CLAIM,
    ),
)  # fmt: skip
