"""Embedding-Converter: convert the gallery, and keep the distances within it.

Yoon & Arik, "Embedding-Converter: A Unified Framework for Cross-Model Embedding Transformation",
ACL 2025. An MLP with hidden layers of 5d, 5d and 5d maps stored vectors o to new ones n. It is
trained on |f(o) - n|^2 and on distances: those between converted vectors are to equal those between
new ones, among all pairs of a batch and among near ones.

Changed: the weights of the three terms were not at hand and are 1; near ones are the NEAR nearest
new vectors of the batch. The number of epochs is ours.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import normalize

from xbtmigrate_research.method import Method, Needs, Outcome, answer_in_new
from xbtmigrate_research.optimise import mapped
from xbtmigrate_research.pairs import to_new, train_map
from xbtmigrate_research.trial import Trial

WIDENING = 5
NEAR = 10
EPOCHS = 50


def converter(d_in: int, d_out: int) -> nn.Module:
    """Return the MLP d - 5d - 5d - 5d - d_new."""
    width = WIDENING * d_in
    return nn.Sequential(
        nn.Linear(d_in, width), nn.ReLU(),
        nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, d_out),
    )  # fmt: skip


def loss(outputs: Tensor, y: Tensor, rows: Tensor) -> Tensor:  # noqa: ARG001
    """Squared error, and that of the cosines within the batch: of all pairs, and of near ones."""
    error = (outputs - y).square().sum(dim=1).mean()
    converted, true = (each @ each.T for each in (normalize(outputs), y))
    apart = (converted - true).square()
    # The nearest of all is the vector itself.
    near = true.topk(min(NEAR + 1, len(y)), dim=1).indices[:, 1:]
    local = apart.gather(1, near).mean()
    total: Tensor = error + apart.mean() + local
    return total


def run(trial: Trial) -> Outcome:
    """Train the converter and map the gallery."""
    pairs = to_new(trial)
    d_in, d_out = (each.shape[1] for each in pairs)
    network = train_map(trial, pairs, lambda: converter(d_in, d_out), loss, epochs=EPOCHS)
    return answer_in_new(trial, mapped(network, trial.corpus.old))


METHODS = (
    Method(
        "embedding_converter", "Yoon & Arik, ACL 2025", run, Needs(),
        "forward, kind `mlp`, smaller", beside="forward_ridge", epochs=EPOCHS,
    ),
)  # fmt: skip
