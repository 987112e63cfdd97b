"""BT2: rotate the new model's vectors so that their first coordinates are the old space.

Zhou et al., "BT2: Backward-compatible Training with Basis Transformation", ICCV 2023, arXiv
2211.03989. With x the vector of a new model that was trained for itself and e(x) a few extra
coordinates (32), phi(x) = B [x, e(x)], B orthonormal and learned: what x holds stays in phi(x),
whatever the first coordinates are made to match.

Changed: the frozen new model stands for the network that the paper trains, so the terms that match
it are zero; the second transformation, within the extra coordinates, is left out. B is the Cayley
map of a skew-symmetric matrix, which is faster than its exponential.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal

from xbtmigrate_research.heads import (
    EPOCHS,
    NEEDS,
    SERVED,
    Training,
    answer_by_head,
    dimensions,
    influence_loss,
    new_loss,
    train_head,
)
from xbtmigrate_research.method import Method, Outcome
from xbtmigrate_research.trial import Trial

EXTRA = 32


class BasisTransformation(nn.Module):
    """phi(x) = B [x, e(x)].

    Args:
        d_new: Length of x.
        size: Length of phi(x), at least that of x and the extra coordinates.
        extra: Number of extra coordinates; what remains is zero.
    """

    def __init__(self, d_new: int, size: int, extra: int) -> None:
        super().__init__()
        self.pad = size - d_new - extra
        self.beside = nn.Linear(d_new, extra)
        self.basis = orthogonal(nn.Linear(size, size, bias=False), orthogonal_map="cayley")

    def forward(self, x: Tensor) -> Tensor:
        """Compute (n, d_new) -> (n, size)."""
        joined = torch.cat([x, self.beside(x)], dim=1)
        found: Tensor = self.basis(nn.functional.pad(joined, (0, self.pad)))
        return found


def run(trial: Trial) -> Outcome:
    """Train B and the extra coordinates."""
    d_new, d_old = dimensions(trial)
    size = max(d_new + EXTRA, d_old)
    head = train_head(
        trial,
        lambda: Training(
            BasisTransformation(d_new, size, EXTRA), lambda b: new_loss(b) + influence_loss(b)
        ),
    )
    return answer_by_head(trial, head)


METHODS = (
    Method(
        "bt2", "Zhou et al., ICCV 2023, 2211.03989", run, NEEDS, SERVED, beside="bct",
        epochs=EPOCHS, compatible=True,
    ),
)  # fmt: skip
