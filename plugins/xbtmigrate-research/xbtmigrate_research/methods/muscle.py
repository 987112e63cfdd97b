"""MUSCLE: lose no answer that the old model had.

Echterhoff et al., "MUSCLE: A Model Update Strategy for Compatible LLM Evolution", EMNLP 2024, arXiv
2407.09435, after positive-congruent training (Yan et al., CVPR 2021, arXiv 2011.09161). A negative
flip is a query that the old model answers and the new one does not. To the loss of the update a
distillation is added that counts where the old model was right: sum_i w_i KL(old_i || new_i).

Changed: the update is a forward map h of stored vectors, trained so that a question finds its
point; old_i and new_i are the distributions of question i over the points of the batch, by both
models, and w_i is 1 where the old model ranks the right point first. `muscle_off` is the same map
without the distillation: compare the column of negative flips.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import kl_div, normalize

from xbtmigrate_research.heads import TEMPERATURE, Head, contrast
from xbtmigrate_research.method import Method, Needs, Outcome, answer_in_new
from xbtmigrate_research.optimise import mapped
from xbtmigrate_research.pairs import to_new, train_map
from xbtmigrate_research.trial import Trial

DISTILLATION = 1.0
EPOCHS = 30


def run(trial: Trial, weight: float) -> Outcome:
    """Train the forward map with so much distillation."""
    corpus, rows = trial.corpus, trial.rows
    asked_old, asked_new = (torch.from_numpy(each[rows]) for each in corpus.questions)
    old = torch.from_numpy(corpus.old[rows])

    def loss(outputs: Tensor, y: Tensor, at: Tensor) -> Tensor:
        projected, asked = normalize(outputs), asked_new[at]
        error = (projected - y).square().sum(dim=1).mean()
        before = asked_old[at] @ old[at].T / TEMPERATURE
        after = asked @ projected.T / TEMPERATURE
        right = before.argmax(dim=1) == torch.arange(len(at))
        flips = kl_div(
            after.log_softmax(dim=1), before.log_softmax(dim=1), reduction="none", log_target=True
        ).sum(dim=1)
        return contrast(asked, projected) + error + weight * (right * flips).mean()

    d_old, d_new = corpus.old.shape[1], corpus.new.shape[1]
    network = train_map(trial, to_new(trial), lambda: Head(d_old, d_new), loss, epochs=EPOCHS)
    return answer_in_new(trial, mapped(network, corpus.old))


METHODS = (
    Method(
        "muscle_off", "the map alone", partial(run, weight=0.0), Needs(labels=True),
        "forward, kind `mlp`, contrastive", beside="forward_ridge", epochs=EPOCHS,
    ),
    Method(
        "muscle", "Echterhoff et al., EMNLP 2024, 2407.09435", partial(run, weight=DISTILLATION),
        Needs(old_model=True, labels=True), "only its measure, negative flips",
        beside="muscle_off", epochs=EPOCHS,
        remark="Made to lose fewer answers: see the negative flips of both, below.",
    ),
)  # fmt: skip
