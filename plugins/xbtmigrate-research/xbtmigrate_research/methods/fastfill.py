"""FastFill: FCT's map with an estimate of its error, which orders the backfill.

Jaeckle et al., "FastFill: Efficient Compatible Model Update", ICLR 2023, arXiv 2303.04766. The
network of FCT has one more output, s; with l the loss of a point, minimise the mean of
exp(-s) l / 2 + s / 2, and embed the points with the largest s first. The paper's l is the squared
error plus the cross-entropy of the new model's classifier.

Changed: l is the squared error alone, as collections have no classes (`fastfill_classes` in this
package has them); what is changed in FCT is changed here too. The row shows the AUC of this map in
random order, by s, and by the variance of the Gaussian process of `forward_kernel`.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from xbtmigrate.training.kinds.losses import likelihood_of
from xbtmigrate.types import Direction, normalized
from xbtmigrate_research.method import (
    VARIANCE,
    Claim,
    Method,
    Needs,
    Outcome,
    Rows,
    Share,
    answer_in_new,
    worst_first,
)
from xbtmigrate_research.methods.fct import EPOCHS, TRUNK, Inputs, train_forward
from xbtmigrate_research.optimise import raw
from xbtmigrate_research.trial import Trial


def likelihood(outputs: Tensor, y: Tensor) -> Tensor:
    """mean(exp(-s) l / 2 + s / 2), l the squared error of a point."""
    return likelihood_of((outputs[:, :-1] - y).square().mean(dim=1), outputs[:, -1])


def run(trial: Trial, trunk: int = TRUNK) -> Outcome:
    """Train, map the gallery and order it."""
    inputs = Inputs.of(trial, None)
    network = train_forward(trial, inputs, likelihood, extra=1, trunk=trunk)
    found = raw(network, inputs.x)
    others = {VARIANCE: partial(variance_order, trial)}
    return answer_in_new(trial, normalized(found[:, :-1]), found[:, -1], others=others)


def variance_order(trial: Trial) -> Rows:
    """Order by the variance of a Gaussian process on the same pairs."""
    projector = trial.fit(Direction.FORWARD, ["gaussian_process"]).projector
    return worst_first(projector.uncertainty(trial.corpus.old))


METHODS = (
    Method(
        "fastfill", "Jaeckle et al., ICLR 2023, 2303.04766", run, Needs(),
        "fastfill, kind `fastfill`, smaller", beside="fct", epochs=EPOCHS,
        remark="For its order and that of the variance see the AUC, below.",
        claim=Claim(Share.BACKFILL, "92 % (CMC@1, ImageNet); 75 % by FCT in random order"),
    ),
)  # fmt: skip
