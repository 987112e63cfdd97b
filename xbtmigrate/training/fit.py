"""Fit every kind on every source of pairs, and keep the one that retrieves best."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from importlib.util import find_spec
from typing import cast

import numpy as np

import xbtmigrate
from xbtmigrate.errors import ConfigError, TrainingError
from xbtmigrate.migration.phases import utc_now
from xbtmigrate.projectors import Manifest, Projector, Uncertainty
from xbtmigrate.side_information import TextSide
from xbtmigrate.training.fit_uncertainty import fit_uncertainty
from xbtmigrate.training.make_problem import check_task, make_problem
from xbtmigrate.training.pairs import Pairs, PairSource, joined_pairs, pairs_digest
from xbtmigrate.training.problem import Candidate, ModelSpace, Problem, Trainer
from xbtmigrate.training.race import OnFit, preference, race
from xbtmigrate.training.refit import refit, refit_with_unseen
from xbtmigrate.training.selection import Scores, SelectionTask, measure_retrieval
from xbtmigrate.training.trainers import AUTO, find_trainer, find_trainers
from xbtmigrate.types import Direction, PointId, Vectors


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How to fit.

    Attributes:
        old: Space of the old model.
        new: Space of the new model.
        kinds: Names of kinds to try; "auto" means the closed forms.
        text_sides: What made the side vectors of the pairs from texts, by direction; none where
            they were stored.
        seed: Seed of every random choice.
        threads: Threads torch may use.
    """

    old: ModelSpace
    new: ModelSpace
    kinds: Sequence[str] = (AUTO,)
    text_sides: Mapping[Direction, TextSide] = field(default_factory=dict)
    seed: int = 0
    threads: int = 2


@dataclass(frozen=True, slots=True)
class Unseen:
    """Projections of pairs by maps that were fitted without them.

    Attributes:
        source: Pairs they were fitted on.
        ids: Ids of the pairs' points, n.
        projected: Float32 (n, d_out).
    """

    source: PairSource
    ids: Sequence[PointId]
    projected: Vectors

    def of(self, ids: Sequence[PointId], default: Vectors) -> Vectors:
        """Look projections up by id; ids that were not paired take their row of `default`."""
        place = {point: row for row, point in enumerate(self.ids)}
        # Point by point: pairs of several sources overlap without being the same.
        found = default.copy()
        rows = [(row, place[point]) for row, point in enumerate(ids) if point in place]
        if rows:
            into, out_of = (list(each) for each in zip(*rows, strict=True))
            found[into] = self.projected[out_of]
        return found


@dataclass(frozen=True, slots=True)
class FitReport:
    """What was fitted, best first.

    Attributes:
        projector: The best candidate, with an uncertainty estimate if it maps forward.
        candidates: All that was tried, best first.
        baselines: Scores of "keep" and "full" on the same task, where it has their vectors.
        seconds: Time of the whole.
        unseen: Honest projections of the pairs; None for a bridge that is no closed form.
        others: The best candidate of every other kind, to be measured beside the chosen one.
    """

    projector: Projector
    candidates: Sequence[Candidate]
    baselines: dict[str, Scores]
    seconds: float
    unseen: Unseen | None
    others: Sequence[Projector]


def fit(
    direction: Direction,
    pairs: Sequence[Pairs],
    task: SelectionTask,
    options: FitOptions,
    progress: OnFit | None = None,
) -> FitReport:
    """Fit a projector.

    Args:
        direction: Bridge (new -> old) or forward (old -> new).
        pairs: Pairs of one or more sources, none of them of the task's queries.
        task: Held-out retrieval to choose by.
        options: Spaces, kinds, seed, threads.
        progress: Called before each fit.

    Returns:
        The best projector and every candidate.

    Raises:
        TrainingError: Pairs or task cannot be used.
    """
    started = time.monotonic()
    progress = progress or (lambda *_: None)
    trainers = _trainers(direction, options.kinds)
    if not pairs:
        raise TrainingError("there are no pairs", "take a larger sample of the collection")
    check_task(task, pairs)
    problems = {group.source: _problem(direction, group, task, options) for group in pairs}
    candidates = race(trainers, list(problems.values()), options.kinds, progress)
    closed = all(each.closed_form for each in trainers)
    candidates.sort(
        key=lambda each: preference(each, problems[each.source], closed=closed), reverse=True
    )
    (projector, *others), unseen = _finish(candidates, problems, pairs, task, options)
    seconds = time.monotonic() - started
    return FitReport(projector, candidates, _baselines(task, options), seconds, unseen, others)


def _finish(
    candidates: Sequence[Candidate],
    problems: dict[PairSource, Problem],
    pairs: Sequence[Pairs],
    task: SelectionTask,
    options: FitOptions,
) -> tuple[list[Projector], Unseen | None]:
    """Fit the best candidate of every kind on all pairs; estimate the first one's uncertainty.

    Nothing is compared after this, so the held-out pairs can be trained on too.
    """
    direction = next(iter(problems.values())).direction
    every = {each.source: each for each in joined_pairs([*pairs, *task.pairs])}
    wholes = {
        source: _problem(direction, every[source], task, options, held_out=False)
        for source in problems
    }
    digest = pairs_digest([every[source] for source in problems])
    best, *rest = _best_of_kinds(candidates)
    made = [
        _projector(refit(each, wholes[each.source]), wholes[each.source], options, digest)
        for each in rest
    ]
    # Only stored projections are ordered by their error and calibrated; a bridge maps queries.
    if direction is Direction.BRIDGE:
        found, unseen = best, None
        # Networks, which stay as they are, would have to be trained twice more.
        if find_trainer(best.kind).closed_form:
            found, projected = refit_with_unseen(best, wholes[best.source])
            unseen = Unseen(best.source, wholes[best.source].ids, projected)
        made = [_projector(found, wholes[best.source], options, digest), *made]
        return [_with_plain(each, candidates, wholes) for each in made], unseen
    found, projected = refit_with_unseen(best, wholes[best.source])
    unseen = Unseen(best.source, wholes[best.source].ids, projected)
    error, figures = _uncertainty(best, unseen, problems)
    # The estimate that came with the map changes with it.
    kept = found.fitted.error if error is best.fitted.error else error
    projector = _projector(found, wholes[best.source], options, digest)
    manifest = replace(projector.manifest, uncertainty_metrics=figures)
    return [replace(projector, manifest=manifest, error=kept), *made], unseen


def _with_plain(
    projector: Projector, candidates: Sequence[Candidate], wholes: Mapping[PairSource, Problem]
) -> Projector:
    """Add the best map of the same kind without side vectors to a bridge that takes them."""
    alike = (
        each for each in candidates if each.kind == projector.kind and not each.settings.get("side")
    )
    best = next(alike, None)
    if best is None or not projector.d_side:
        return projector
    return replace(projector, plain=refit(best, wholes[best.source]).fitted.architecture)


def _trainers(direction: Direction, kinds: Sequence[str]) -> list[Trainer]:
    """Look up the kinds that map in a direction; refuse names of which none does."""
    found = [each for each in find_trainers(kinds) if direction in each.directions]
    if not found:
        raise ConfigError(
            f"none of {', '.join(kinds)} maps in the direction {direction}",
            "name a kind that does, or only the other --direction",
        )
    return found


def _best_of_kinds(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the best candidate of every kind, in their order."""
    best: dict[str, Candidate] = {}
    for each in candidates:
        best.setdefault(each.kind, each)
    return list(best.values())


def _problem(
    direction: Direction,
    pairs: Pairs,
    task: SelectionTask,
    options: FitOptions,
    *,
    held_out: bool = True,
) -> Problem:
    problem = make_problem(
        *(direction, pairs, task, (options.old, options.new)),
        seed=options.seed,
        threads=options.threads,
        held_out=held_out,
    )
    # A side vector stored in the collection is a single block.
    text_side = options.text_sides.get(direction)
    blocks = text_side.sizes if text_side else {"stored": problem.side}
    return replace(problem, blocks=blocks)


def _projector(found: Candidate, problem: Problem, options: FitOptions, digest: str) -> Projector:
    """Describe a map, together with the table that makes its side vectors."""
    side = problem.with_inputs_for(found.settings).side
    manifest = Manifest(
        direction=problem.direction,
        kind=found.kind,
        # The map's input is the stored vector followed by the side vector.
        d_in=found.fitted.architecture.d_in - side,
        d_out=found.fitted.architecture.d_out,
        input_distance=problem.x_distance,
        output_distance=problem.y_distance,
        d_side=side,
        old_model=options.old.fingerprint,
        new_model=options.new.fingerprint,
        data_digest=digest,
        pair_source=found.source,
        seed=options.seed,
        hyperparameters=found.settings,
        metrics={
            **cast("Mapping[str, float]", found.scores.as_metrics()),
            "cosine": found.cosine,
            "error": found.squared_error,
        },
        libraries=_libraries(),
        created_at=utc_now(),
    )
    # The table of words is most of a projector's size: 25 MB that a map without side vectors can do
    # without.
    return Projector(
        manifest,
        found.fitted.architecture,
        text_side=options.text_sides.get(problem.direction) if side else None,
    )


def _uncertainty(
    best: Candidate, unseen: Unseen, problems: dict[PairSource, Problem]
) -> tuple[Uncertainty, dict[str, float]]:
    """Fit the uncertainty to the true new vectors of the stored content.

    A map fitted on captions aims at the caption's new vector, but re-encoding would store the
    image's. So its error is measured on image pairs, where there are any.
    """
    source = best.source
    if source is PairSource.CAPTION_IMAGE and PairSource.IMAGE in problems:
        source = PairSource.IMAGE
    problem = problems[source].with_inputs_for(best.settings)
    projected = unseen.of(problem.ids, problem.project(best.fitted.architecture, problem.x))
    errors = np.asarray(np.mean((projected - problem.y) ** 2, axis=1), np.float32)
    truth = problem.squared_errors(best.fitted.architecture, problem.x_held, problem.y_held)
    # A closed form was fitted without torch, and so is its uncertainty.
    networks = not find_trainer(best.kind).closed_form
    return fit_uncertainty(problem, best.fitted.error, errors, truth, networks=networks)


def _baselines(task: SelectionTask, options: FitOptions) -> dict[str, Scores]:
    """Score keep and full on the task, where it has the vectors."""
    baselines = {}
    if task.queries_old is not None:
        baselines["keep"] = measure_retrieval(
            task.queries_old, task.gallery_old, task.relevant, options.old.distance
        )
    # A point that searches for itself finds itself in `full`: the figure would always be 1.
    if task.gallery_new is not None and not task.self_asked:
        baselines["full"] = measure_retrieval(
            task.queries_new, task.gallery_new, task.relevant, options.new.distance
        )
    return baselines


def _libraries() -> dict[str, str]:
    """Return the versions of the libraries used in a fit."""
    # By its specification: importing torch only for its version takes seconds.
    names = [name for name in ("numpy", "torch", "safetensors") if find_spec(name) is not None]
    return {
        "python": platform.python_version(),
        "xbtmigrate": xbtmigrate.__version__,
        **{name: version(name) for name in names},
    }
