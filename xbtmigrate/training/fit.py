"""Training: fit every kind on every source of pairs, keep what retrieves best, report all."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np

import xbtmigrate
from xbtmigrate.errors import TrainingError
from xbtmigrate.journal import utc_now
from xbtmigrate.projectors import Manifest, Projector, Uncertainty
from xbtmigrate.training.mlp import MlpTrainer
from xbtmigrate.training.pairs import Pairs, PairSource, pairs_digest
from xbtmigrate.training.problem import (
    Candidate,
    Problem,
    Settings,
    Space,
    Trainer,
    check_task,
    make_problem,
)
from xbtmigrate.training.procrustes import ProcrustesTrainer
from xbtmigrate.training.ridge import RidgeTrainer
from xbtmigrate.training.selection import Scores, SelectionTask, retrieval_scores
from xbtmigrate.training.uncertainty import fit_uncertainty, unseen_errors
from xbtmigrate.types import Direction

TRAINERS: dict[str, Trainer] = {
    trainer.kind: trainer for trainer in (ProcrustesTrainer(), RidgeTrainer(), MlpTrainer())
}
"""Kinds by name, in the order they are fitted: a later kind may start from an earlier one."""

AUTO = "auto"

Progress = Callable[[str], None]
"""Told what is fitted next, in words."""


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How to fit.

    Attributes:
        old: Space of the old model.
        new: Space of the new model.
        kinds: Names of kinds to try; "auto" stands for all.
        seed: Seed of every random choice.
        threads: Threads torch may use.
    """

    old: Space
    new: Space
    kinds: Sequence[str] = (AUTO,)
    seed: int = 0
    threads: int = 2


@dataclass(frozen=True, slots=True)
class FitReport:
    """What was fitted, best first.

    Attributes:
        projector: The best candidate, with an uncertainty estimate if it maps forward.
        candidates: All that was tried, best first.
        baselines: Scores of "keep" and "full" on the same task, where it has their vectors.
        seconds: Time of the whole.
    """

    projector: Projector
    candidates: Sequence[Candidate]
    baselines: dict[str, Scores]
    seconds: float


def fit(
    direction: Direction,
    pairs: Sequence[Pairs],
    task: SelectionTask,
    options: FitOptions,
    progress: Progress | None = None,
) -> FitReport:
    """Fit a projector.

    Args:
        direction: Bridge (new -> old) or forward (old -> new).
        pairs: Pairs of one or more sources, none of them of the task's queries.
        task: Held-out retrieval to choose by.
        options: Spaces, kinds, seed, threads.
        progress: Told what is fitted next.

    Returns:
        The best projector and every candidate.

    Raises:
        TrainingError: Pairs or task cannot be used; says why.
    """
    started = time.monotonic()
    say = progress or (lambda _: None)
    trainers = _trainers(options.kinds)
    _require_torch(trainers)
    if not pairs:
        raise TrainingError("there are no pairs", "take a larger sample of the collection")
    check_task(task, pairs)
    spaces = (options.old, options.new)
    problems = {
        group.source: make_problem(
            direction, group, task, spaces, seed=options.seed, threads=options.threads
        )
        for group in pairs
    }
    candidates: list[Candidate] = []
    for trainer in trainers:
        for problem in problems.values():
            candidates += _attempts(trainer, problem, candidates, say)
    candidates.sort(key=lambda c: c.scores.order, reverse=True)
    projector = _finish(candidates[0], problems, options, pairs_digest(pairs), say)
    seconds = time.monotonic() - started
    return FitReport(projector, candidates, _baselines(task, options), seconds)


def _require_torch(trainers: Sequence[Trainer]) -> None:
    if MlpTrainer.kind in {each.kind for each in trainers} and find_spec("torch") is None:
        raise TrainingError(
            "the kind 'mlp' needs torch, which is not installed",
            "pip install 'xbtmigrate[train]', or use --kind procrustes,ridge",
        )


def _trainers(kinds: Sequence[str]) -> list[Trainer]:
    """Look the kinds up, in the order of TRAINERS."""
    unknown = sorted(set(kinds) - {AUTO, *TRAINERS})
    if unknown or not kinds:
        raise TrainingError(
            f"unknown kind of projector: {', '.join(unknown) or 'none given'}",
            f"use one or more of: {AUTO}, {', '.join(TRAINERS)}",
        )
    return [t for name, t in TRAINERS.items() if AUTO in kinds or name in kinds]


def _attempts(
    trainer: Trainer, problem: Problem, earlier: Sequence[Candidate], say: Progress
) -> list[Candidate]:
    """Fit one kind to one source of pairs with each of its settings."""
    mine = [c for c in earlier if c.source == problem.source]
    found = []
    for settings in trainer.settings(problem, mine):
        shown = ", ".join(f"{name}={value:g}" for name, value in settings.items())
        say(f"{trainer.kind} on {problem.source} pairs ({shown})")
        found.append(_attempt(trainer, problem, settings))
    return found


def _attempt(trainer: Trainer, problem: Problem, settings: Settings) -> Candidate:
    """Fit and measure once."""
    started = time.monotonic()
    architecture = trainer.fit(problem, settings)
    seconds = time.monotonic() - started
    mapped, target = problem.project(architecture, problem.x_held), problem.y_held
    norms = np.linalg.norm(mapped, axis=1) * np.linalg.norm(target, axis=1)
    cosine = float(np.mean((mapped * target).sum(axis=1) / np.maximum(norms, 1e-12)))
    scores = problem.score(architecture)
    return Candidate(trainer.kind, problem.source, settings, scores, cosine, seconds, architecture)


def _finish(
    best: Candidate,
    problems: dict[PairSource, Problem],
    options: FitOptions,
    digest: str,
    say: Progress,
) -> Projector:
    """Make the artefact of the best candidate; a forward map gets an uncertainty."""
    problem = problems[best.source]
    error: Uncertainty | None = None
    figures: dict[str, float] = {}
    if problem.direction is Direction.FORWARD:
        say("uncertainty")
        error, figures = _uncertainty(best, problems)
    manifest = Manifest(
        direction=problem.direction,
        kind=best.kind,
        d_in=best.architecture.d_in,
        d_out=best.architecture.d_out,
        input_distance=problem.x_distance,
        output_distance=problem.y_distance,
        old_model=options.old.fingerprint,
        new_model=options.new.fingerprint,
        data_digest=digest,
        pair_source=best.source,
        seed=options.seed,
        hyperparameters=best.settings,
        metrics={**best.scores.as_metrics(), "cosine": best.cosine},
        uncertainty_metrics=figures,
        libraries=_libraries(),
        created_at=utc_now(),
    )
    return Projector(manifest, best.architecture, error)


def _uncertainty(
    best: Candidate, problems: dict[PairSource, Problem]
) -> tuple[Uncertainty, dict[str, float]]:
    """Fit the uncertainty to true new vectors of the stored content.

    A map fitted on captions aims at the caption's new vector, but what re-encoding would put in its
    place is the image's: where image pairs are at hand, they are what its error is measured on.
    """
    images = problems.get(PairSource.IMAGE)
    if best.source is PairSource.CAPTION_IMAGE and images is not None:
        errors = images.squared_errors(best.architecture, images.x, images.y)
        return fit_uncertainty(images, best.architecture, errors)
    problem = problems[best.source]
    errors = unseen_errors(problem, TRAINERS[best.kind], best.settings)
    return fit_uncertainty(problem, best.architecture, errors)


def _baselines(task: SelectionTask, options: FitOptions) -> dict[str, Scores]:
    """Score keep and full on the task, where it has the vectors."""
    baselines = {}
    if task.queries_old is not None:
        baselines["keep"] = retrieval_scores(
            task.queries_old, task.gallery_old, task.relevant, options.old.distance
        )
    if task.gallery_new is not None:
        baselines["full"] = retrieval_scores(
            task.queries_new, task.gallery_new, task.relevant, options.new.distance
        )
    return baselines


def _libraries() -> dict[str, str]:
    """Versions of what takes part in a fit."""
    names = [name for name in ("numpy", "torch", "safetensors") if find_spec(name) is not None]
    return {
        "python": platform.python_version(),
        "xbtmigrate": xbtmigrate.__version__,
        **{name: version(name) for name in names},
    }
