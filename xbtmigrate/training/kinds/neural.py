"""The neural kinds of projector, one row each; torch is imported on use."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from xbtmigrate.training.kinds.closed_form import RIDGE
from xbtmigrate.training.pairs import PairSource
from xbtmigrate.training.problem import Candidate, FittedMap, Problem, Settings
from xbtmigrate.types import Direction

NOISES: Final = (0.0, 0.05)
BOTH: Final = tuple(Direction)


@dataclass(frozen=True, slots=True)
class Neural:
    """A kind that is a network with an objective.

    Attributes:
        kind: Name of the method.
        network: Name of the network in `xbtmigrate.training.kinds.networks`.
        grid: Settings to try, besides the noise.
        epochs: Passes over the pairs.
        directions: Ways it can map.
        noises: Standard deviations of the Gaussian noise on each coordinate of the inputs, in units
            of their length, to try where both sides embed text.
        takes_side: Whether it can take side vectors, where there are any.
    """

    kind: str
    network: str
    grid: Sequence[Mapping[str, float | int | str | bool]]
    epochs: int
    directions: Collection[Direction] = BOTH
    noises: Sequence[float] = (0.0,)
    takes_side: bool = False
    closed_form: bool = False

    def settings(self, problem: Problem, earlier: Sequence[Candidate]) -> Sequence[Settings]:
        """Cross the grid with the noise; start from the best ridge penalty so far.

        The noise is XBT's remedy for the gap between texts and images. Pairs across the gap, or of
        images, need none.
        """
        # The network corrects the ridge solution, so it starts from the best penalty known.
        ridges = [c for c in earlier if c.kind == RIDGE.kind and not c.settings.get("side")]
        best = max(ridges, key=lambda c: c.scores.order, default=None)
        penalty = best.settings["penalty"] if best else 1e-2
        noises = self.noises if problem.source is PairSource.TEXT else self.noises[:1]
        # Where lengths matter only the first setting is tried: for `mlp` the distance, as a
        # contrast ignores lengths.
        grid = self.grid if problem.cosine else self.grid[:1]
        return [
            {"penalty": penalty, "epochs": self.epochs, "noise": noise, **each, **side}
            for each in grid
            for noise in noises
            for side in ([{}, {"side": True}] if self.takes_side and problem.side else [{}])
        ]

    def fit(self, problem: Problem, settings: Settings) -> FittedMap:
        """Train from the problem's seed."""
        # On use: the registry loads this module even where torch is not installed.
        from xbtmigrate.training.kinds.losses import objective_of
        from xbtmigrate.training.kinds.networks import train

        return train(problem, self.network, settings, objective_of(problem, settings))


MLP = Neural(
    "mlp",
    "residual",
    [{"loss": "distance"}, {"loss": "contrastive"}],
    epochs=10,
    noises=NOISES,
)
"""Residual MLP, pretrained on texts with noise (XBT, ICCV 2025, arXiv 2405.14715; the residual form
is Drift-Adapter's, EMNLP 2025). Contrastive is InfoNCE (van den Oord et al. 2018) with the roles of
the search to come: a bridge's outputs are queries, a forward map's outputs are the gallery."""

REVERSE_QUERY = Neural(
    "reverse_query", "residual", [{"loss": "pooled"}], epochs=10, directions=(Direction.BRIDGE,)
)
"""Reverse query transform with the metric-compatible contrastive loss (Seo et al., WACV 2025, arXiv
2301.03767): negatives are pooled from both spaces, so that distances of the two compare."""

FCT = Neural(
    "fct",
    "two_branch",
    [{"loss": "distance"}],
    epochs=10,
    directions=(Direction.FORWARD,),
    takes_side=True,
)
"""Two-branch network (FCT, CVPR 2022, arXiv 2112.02805), with GELU where the paper has ReLU, so
that one architecture serves every network. Where there are side vectors it is tried with and
without them; without, the old vector feeds both branches."""

FASTFILL = Neural(
    "fastfill",
    "residual",
    [{"loss": "likelihood"}],
    epochs=10,
    directions=(Direction.FORWARD,),
)
"""The map and its log-variance in one network (FastFill, ICLR 2023, arXiv 2303.04766), without the
paper's classes: these made both worse (docs/benchmarks.md)."""
