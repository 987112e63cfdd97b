"""L2R: the new model ranks stored vectors as it ranks its own.

Cai et al., "L2R: Lifelong Learning for First-stage Retrieval with Backward-Compatible
Representations", CIKM 2023, arXiv 2308.11512. Beside the loss of retrieval a ranking alignment: for
a query q with candidates d, the distribution softmax_d(phi(q).old(d)) over stored vectors follows
softmax_d(phi(q).phi(d)) over new ones, by their Kullback-Leibler divergence.

Changed: of the paper only its summary was at hand, so the divergence is our reading of the
alignment; the candidates are the batch. The memory of earlier documents and the selection of
negatives are left out, as no documents arrive here.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import kl_div

from xbtmigrate_research.heads import (
    EPOCHS,
    NEEDS,
    SERVED,
    TEMPERATURE,
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


def loss(batch: Batch) -> Tensor:
    """Retrieval in both spaces, and the alignment of the two rankings."""
    across, own = (
        (batch.asked @ each.T / TEMPERATURE).log_softmax(dim=1) for each in (batch.old, batch.point)
    )
    alignment = kl_div(across, own.detach(), reduction="batchmean", log_target=True)
    return new_loss(batch) + contrast(batch.asked_in_old, batch.old) + alignment


def run(trial: Trial) -> Outcome:
    """Train a head of the old length."""
    return answer_by_head(
        trial, train_head(trial, lambda: Training(Head(*dimensions(trial)), loss))
    )


METHODS = (
    Method(
        "l2r", "Cai et al., CIKM 2023, 2308.11512", run, NEEDS, SERVED, beside="bct",
        epochs=EPOCHS, compatible=True, remark="Written from the paper's abstract.",
    ),
)  # fmt: skip
