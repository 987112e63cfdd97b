"""Rows of the kinds that the tool trains itself, as `train-projector` trains them.

Procrustes (Schönemann 1966), ridge (Hoerl & Kennard 1970) and Gaussian processes are the closed
forms that every other method has to beat on the same pairs. Query drift compensation (Goswami et
al., CoLLAs 2025, arXiv 2506.00037) adds the difference of the means, y = x + (mean y - mean x).
Lambda-orthogonality (Ricci et al. 2025, arXiv 2509.16664) is a near-orthogonal bridge; of its three
lambdas the one that retrieves best is taken. Changed in all: settings are chosen on held-out pairs.
"""

from __future__ import annotations

from collections.abc import Callable

from xbtmigrate.types import Direction
from xbtmigrate_research.method import Method, Needs, Outcome, answer_in_new, answer_in_old
from xbtmigrate_research.trial import Trial

CLOSED = Needs()


def bridge(kind: str, *, words: bool = False) -> Callable[[Trial], Outcome]:
    """Make the run that maps queries by a kind."""

    def run(trial: Trial) -> Outcome:
        projector = trial.fit(Direction.BRIDGE, [kind], words=words).projector
        mapped = projector.apply_to_queries(trial.corpus.asked_new, trial.corpus.asked)
        return answer_in_old(trial, mapped, str(dict(projector.manifest.hyperparameters)))

    return run


def forward(kind: str, *, words: bool = False) -> Callable[[Trial], Outcome]:
    """Make the run that maps the gallery by a kind."""

    def run(trial: Trial) -> Outcome:
        projector = trial.fit(Direction.FORWARD, [kind], words=words).projector
        old, side = trial.corpus.old, trial.sides.get(Direction.FORWARD) if words else None
        uncertainty = projector.uncertainty(old, side)
        note = str(dict(projector.manifest.hyperparameters))
        return answer_in_new(trial, projector.apply(old, side), uncertainty, note)

    return run


METHODS = (
    Method(
        "procrustes", "Schönemann 1966", bridge("procrustes"), CLOSED, "bridge, kind `procrustes`"
    ),
    Method(
        "ridge", "Hoerl & Kennard 1970", bridge("ridge"), CLOSED, "bridge, kind `ridge`",
        beside="procrustes",
    ),
    Method(
        "kernel", "Rasmussen & Williams 2006", bridge("gaussian_process"), CLOSED,
        "bridge, kind `gaussian_process`", beside="ridge",
    ),
    Method(
        "drift_compensation", "Goswami et al., CoLLAs 2025, 2506.00037", bridge("mean_shift"),
        CLOSED, "bridge, kind `mean_shift`", beside="procrustes",
        remark="It undoes a shift, and two models differ by more than that.",
    ),
    Method(
        "lambda_orthogonal", "Ricci et al. 2025, 2509.16664", bridge("lambda_orthogonal"), CLOSED,
        "bridge, kind `lambda_orthogonal` of the research plugin", beside="procrustes",
    ),
    Method(
        "forward_ridge", "Hoerl & Kennard 1970", forward("ridge"), CLOSED,
        "forward, kind `ridge`",
    ),
    Method(
        "forward_kernel", "Rasmussen & Williams 2006", forward("gaussian_process"), CLOSED,
        "forward, kind `gaussian_process`", beside="forward_ridge",
    ),
    Method(
        "forward_words", "this project", forward("gaussian_process", words=True), CLOSED,
        "forward, kind `gaussian_process` with words", beside="forward_kernel",
        corpora=("debian", "neural"),
    ),
)  # fmt: skip
