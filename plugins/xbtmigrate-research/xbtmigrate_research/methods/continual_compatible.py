"""Continual compatible representation: one update after the other, and no picture embedded again.

Cui et al., "Learning Continual Compatible Representation for Re-indexing Free Lifelong Person
Re-identification" (C2R), CVPR 2024. After each update a transfer network T maps the gallery, as it
is, to the new model's space. T is trained to agree with the new vectors and with how they lie to
each other (balanced compatible distillation):
|T(g) - n|^2 + KL(softmax(n n') || softmax(T(g) n')), and so that what was near in the gallery stays
near (balanced anti-forgetting distillation): KL(softmax(g g') || softmax(T(g) T(g)')).

Changed: the three models are the old one (v1), a head on the frozen new model trained on half of
the pairs (v2), and one trained on all (v3); of the paper only its summary was at hand, so the
divergences are our reading of its two modules, and T is a network of one hidden layer. The row
shows queries by v3 on the gallery that was mapped twice; `transfer_at_once` maps it to v3 alone.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, normalize

from xbtmigrate.evaluation.retrieval import SearchSpace
from xbtmigrate.types import Vectors
from xbtmigrate_research.heads import (
    EPOCHS,
    TEMPERATURE,
    Head,
    Training,
    new_loss,
    train_head,
)
from xbtmigrate_research.method import Method, Needs, Outcome
from xbtmigrate_research.optimise import mapped
from xbtmigrate_research.pairs import train_map
from xbtmigrate_research.trial import Trial

SOURCE = "Cui et al., CVPR 2024"
REMARK = "Written from the paper's abstract."


def divergence(true: Tensor, found: Tensor) -> Tensor:
    """KL(softmax(true / t) || softmax(found / t)), row by row, mean."""
    wanted, given = ((each / TEMPERATURE).log_softmax(dim=1) for each in (true, found))
    return kl_div(given, wanted, reduction="batchmean", log_target=True)


def transfer(trial: Trial, gallery: Vectors, new: Vectors) -> Vectors:
    """Train T on the pairs and map the whole gallery.

    Args:
        trial: The pairs, whose new vectors are known.
        gallery: As it is, (m, d).
        new: Vectors of the new model, (m, d_new); only those of the pairs are looked at.
    """
    before = torch.from_numpy(gallery[trial.rows])

    def loss(outputs: Tensor, y: Tensor, at: Tensor) -> Tensor:
        found, g = normalize(outputs), before[at]
        agree = (found - y).square().sum(dim=1).mean() + divergence(y @ y.T, found @ y.T)
        return agree + divergence(g @ g.T, found @ found.T)

    network = train_map(
        trial,
        (gallery[trial.rows], new[trial.rows]),
        lambda: Head(gallery.shape[1], new.shape[1]),
        loss,
        epochs=EPOCHS,
    )
    return mapped(network, gallery)


def train_version(trial: Trial) -> nn.Module:
    """Train a model on the pairs of a trial: a head of the new length."""
    d_new = trial.corpus.new.shape[1]
    return train_head(trial, lambda: Training(Head(d_new, d_new), new_loss))


def run(trial: Trial, *, each_update: bool) -> Outcome:
    """Go through three models, with the gallery mapped at each update or at the last one."""
    corpus = trial.corpus
    half = replace(trial, pairs=trial.pairs // 2)
    second, third = train_version(half), train_version(trial)
    gallery = corpus.old
    steps = {"v1": SearchSpace(corpus.asked_old, gallery)}
    if each_update:
        gallery = transfer(half, gallery, mapped(second, corpus.new))
        steps["v2"] = SearchSpace(mapped(second, corpus.asked_new), gallery)
    gallery = transfer(trial, gallery, mapped(third, corpus.new))
    steps["v3"] = SearchSpace(mapped(third, corpus.asked_new), gallery)
    own = SearchSpace(mapped(third, corpus.asked_new), mapped(third, corpus.new))
    return Outcome(steps["v3"], own, steps=steps)


METHODS = (
    Method(
        "transfer_at_once", SOURCE, partial(run, each_update=False),
        Needs(labels=True, encoder=True), "forward, kind `mlp`", epochs=EPOCHS,
        remark=REMARK,
    ),
    Method(
        "continual_compatible", SOURCE, partial(run, each_update=True),
        Needs(labels=True, encoder=True), "two migrations in a row", beside="transfer_at_once",
        epochs=EPOCHS, remark=REMARK,
    ),
)  # fmt: skip
