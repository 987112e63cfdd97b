"""BCT: train the new model so that the old classifier accepts its vectors.

Shen et al., "Towards Backward-Compatible Representation Learning", CVPR 2020, arXiv 2003.11942.
Minimise L(new classifier, phi) + lambda L(old classifier, phi), lambda 1: the second term is the
influence loss, with the old classifier fixed; of classes that it does not know the mean old vector
is taken.

Changed: the classes are the points, so the old classifier consists of their stored vectors; the
network is a head on the frozen new model. `head` is the same without the influence loss.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from xbtmigrate_research.heads import (
    EPOCHS,
    NEEDS,
    SERVED,
    Head,
    Loss,
    Training,
    answer_by_head,
    dimensions,
    influence_loss,
    new_loss,
    train_head,
)
from xbtmigrate_research.method import Method, Needs, Outcome
from xbtmigrate_research.trial import Trial

INFLUENCE = 1.0


def run(trial: Trial, loss: Loss) -> Outcome:
    """Train a head of the old length."""
    make: Callable[[], Training] = lambda: Training(Head(*dimensions(trial)), loss)  # noqa: E731
    return answer_by_head(trial, train_head(trial, make))


METHODS = (
    Method(
        "head", "the head alone, not compatible", partial(run, loss=new_loss),
        Needs(labels=True, encoder=True), "full", epochs=EPOCHS, compatible=True,
        remark="The baseline of the compatible rows.",
    ),
    Method(
        "bct", "Shen et al., CVPR 2020, 2003.11942",
        partial(run, loss=lambda batch: new_loss(batch) + INFLUENCE * influence_loss(batch)),
        NEEDS, SERVED, beside="head", epochs=EPOCHS, compatible=True,
    ),
)  # fmt: skip
