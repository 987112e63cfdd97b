"""Collect the gallery of an evaluation in both models' spaces, and its queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.config import Config
from xbtmigrate.errors import CollectionError, ConfigError, EncoderError
from xbtmigrate.evaluation.queries import Questions
from xbtmigrate.evaluation.query_files import read_questions
from xbtmigrate.migration.plan import Plan
from xbtmigrate.training.pairs import load_pairs
from xbtmigrate.types import Kind, PointId, vectors_of
from xbtmigrate.workflows.encode_points import Report, encode_gallery
from xbtmigrate.workflows.evaluate.check_answers import require_answers
from xbtmigrate.workflows.evaluate.embed_queries import CollectedPoints, embed_queries
from xbtmigrate.workflows.evaluate.query_sources import make_neighbour_trial, make_questions
from xbtmigrate.workflows.evaluate.trial import Trial
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.points import Points, survey, take
from xbtmigrate.workflows.store import Store
from xbtmigrate.workflows.workspace import Workspace, read_judged_questions

MAX_GENERATED = 2_000
"""Largest number of queries made from the points themselves."""

# With fewer unseen points than this, seen ones are measured too, with a warning.
MIN_UNSEEN = 100


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """The queries and the size of the gallery of one evaluation.

    Attributes:
        queries: Parquet with `text`, `image` or both, and `relevant`; None for the configured
            file, or for queries made from the points where there is none.
        split: Only rows of this split.
        max_gallery: Points at most; relevant ones are always among them.
        max_queries: Queries of one kind at most.
    """

    queries: Path | None = None
    split: str | None = None
    max_gallery: int = 100_000
    max_queries: int = 10_000


def make_trial(
    store: Store,
    models: Models,
    workspace: Workspace,
    wanted: EvaluationOptions,
    report: Report,
    *,
    decides: bool = False,
) -> tuple[list[Trial], list[str]]:
    """Collect the gallery and embed the queries with both models.

    Args:
        store: What the migration has in Qdrant.
        models: Both models.
        workspace: The migration's files.
        wanted: The queries, and the size of the gallery.
        report: Called with progress.
        decides: Whether a gate is held against the figures, which made queries cannot bear.

    Returns:
        One trial for each kind of query, the most telling first, and warnings.

    Raises:
        ConfigError: The query file is not usable, or a gate has none to be decided by.
        CollectionError: None of its relevant points is in the collection.
        EncoderError: A model cannot embed any of the queries.
    """
    # The sample is seeded, so a repeated run measures the same queries.
    seed = store.config.plan.seed
    judged = [each.sample(wanted.max_queries, seed) for each in _judged(store.config, wanted)]
    # Before anything is encoded, so that a gate that cannot be decided costs nothing.
    if decides and all(each.provisional for each in judged):
        raise ConfigError(
            "a gate needs judged queries, and there are none: queries made from the collection "
            "cannot tell which model is better",
            "name a file with --queries or plan.queries; docs/judging.md shows how to make one",
        )
    require_answers(store, judged)
    collected = collect(
        store, models, workspace, judged, max_gallery=wanted.max_gallery, report=report
    )
    if not judged:
        return _made(
            store,
            models,
            workspace.artefacts,
            collected,
            most=min(wanted.max_queries, MAX_GENERATED),
            report=report,
        )
    collected.warnings.extend({each.limits for each in judged if each.limits})
    return _embed_each(store, models, workspace, collected, judged, report=report)


def _embed_each(
    store: Store,
    models: Models,
    workspace: Workspace,
    collected: CollectedPoints,
    judged: Sequence[Questions],
    *,
    report: Report,
) -> tuple[list[Trial], list[str]]:
    """Embed each kind of judged queries; raises only where none can be used."""
    # One unusable kind of queries (images that a model cannot read) must not hide the other.
    trials: list[Trial] = []
    refused: list[CollectionError | EncoderError] = []
    for questions in judged:
        try:
            trial = embed_queries(store, models, collected, questions, report)
            trials.append(_unspoiled(workspace.artefacts, trial, collected.warnings))
        except (CollectionError, EncoderError) as error:
            refused.append(error)
    if not trials:
        raise refused[0]
    return trials, [*collected.warnings, *(f"not used: {error.message}" for error in refused)]


def collect(
    store: Store,
    models: Models,
    workspace: Workspace,
    judged: Sequence[Questions],
    *,
    max_gallery: int,
    report: Report,
) -> CollectedPoints:
    """Collect the gallery with its true new vectors; encode only those not written or known."""
    # A sample without the right answers would measure nothing, so they are always included. With
    # fewer wrong answers beside them every figure rises, hence the warning below.
    needed = {point for each in judged for relevant in each.relevant for point in relevant}
    points = choose_gallery(store, needed, max_gallery, report)
    vectors, valid = _new_vectors(store, models, workspace, points, report)
    found = CollectedPoints(points.rows(np.flatnonzero(valid)), vectors[valid])
    if not valid.all():
        found.warnings.append(f"{int((~valid).sum())} points left out: they cannot be embedded")
    if len(found.points) < store.facts.points:
        found.warnings.append(
            f"the gallery is a sample of {len(found.points):,} of {store.facts.points:,} "
            "points; every figure is higher than on the whole collection"
        )
    return found


def _unspoiled(artefacts: Artefacts, trial: Trial, warnings: list[str]) -> Trial:
    """Keep the queries whose points no projector has seen, if training held out only a fold."""
    # A fold is stored only where the judged queries cover nearly every point; otherwise training
    # left all their points aside.
    fold, count = artefacts.load_fold(), len(trial.questions)
    if not fold:
        return trial
    rows = trial.questions.find_within(fold)
    if not rows:
        warnings.append(
            "the queries ask for points used in training, so the trained maps look better than "
            "they are"
        )
        return trial
    if len(rows) < count:
        warnings.append(
            f"{count - len(rows)} {trial.questions.modality} queries left out: training used their "
            "points, since the judged queries cover nearly the whole collection"
        )
    return trial.keep_queries(rows)


def _judged(config: Config, wanted: EvaluationOptions) -> list[Questions]:
    if wanted.queries is None:
        return read_judged_questions(config)
    return read_questions(wanted.queries, wanted.split)


def _made(
    store: Store,
    models: Models,
    artefacts: Artefacts,
    collected: CollectedPoints,
    *,
    most: int,
    report: Report,
) -> tuple[list[Trial], list[str]]:
    """Make a trial from the first made queries that both models can embed, else from neighbours."""
    warnings = collected.warnings
    unseen = _unseen(artefacts, collected.points)
    # After `--pairs 0` nothing is unseen: measure on all points, with a warning.
    if len(unseen) < MIN_UNSEEN <= len(collected.points):
        unseen = np.arange(len(collected.points))
        warnings.append(
            "nearly every point was used in training, so the trained maps look better than they are"
        )
    for questions in make_questions(store, models, collected.points.rows(unseen)):
        sampled = questions.sample(most, store.config.plan.seed)
        try:
            trial = embed_queries(store, models, collected, sampled, report)
        except EncoderError as error:
            warnings.append(f"not used: {questions.basis} ({error.message})")
            continue
        break
    else:
        # `make_neighbour_trial` makes queries of the first quarter, so unseen points go in front.
        rest = np.setdiff1d(np.arange(len(collected.points)), unseen)
        order = np.concatenate([unseen, rest])
        trial = make_neighbour_trial(
            store, models, collected.points.rows(order), collected.new[order]
        )
    warnings.append(f"made queries ({trial.questions.basis}): {trial.questions.limits}")
    return [trial], warnings


def _unseen(artefacts: Artefacts, points: Points) -> np.ndarray:
    """Return the rows of the points that no projector and no calibration was fitted on."""
    seen: set[PointId] = set()
    if artefacts.pairs_file.exists():
        seen.update(*(group.ids for group in load_pairs(artefacts.pairs_file)))
    calibration = artefacts.load_calibration()
    if calibration is not None:
        seen.update(calibration.bank.ids)
    return np.array([row for row, point in enumerate(points.ids) if point not in seen], np.intp)


def choose_gallery(
    store: Store, needed: Iterable[PointId], max_gallery: int, report: Report
) -> Points:
    """Return the whole collection, or a uniform sample that holds every relevant point."""
    reader = store.reader()
    if store.facts.points <= max_gallery:
        report("reading the collection", 0, 0)
        return take(reader)
    seen = survey(reader, sample=max_gallery, seed=store.config.plan.seed, report=report)
    first = sorted(needed)
    # Relevant points come first, so the cut to `max_gallery` never drops one.
    wanted = dict.fromkeys([*first, *seen.sample])
    return take(reader, list(wanted)[: max(max_gallery, len(first))])


def _new_vectors(
    store: Store, models: Models, workspace: Workspace, points: Points, report: Report
) -> tuple[np.ndarray, np.ndarray]:
    """Return true new vectors: written by the backfill, cached, or else encoded now."""
    written = _written(store, workspace.artefacts, points)
    # Written vectors cost nothing; the cache comes next, and only the rest is encoded.
    missing = [row for row, point in enumerate(points.ids) if point not in written]
    vectors = np.zeros((len(points), models.new.dimension), np.float32)
    valid = np.ones(len(points), np.bool_)
    for row, point in enumerate(points.ids):
        if point in written:
            vectors[row] = written[point]
    if missing:
        found = encode_gallery(
            models.new,
            workspace.cache,
            points.rows(missing),
            models.stored,
            report=report,
        )
        vectors[missing], valid[missing] = found
    return vectors, valid


def _written(store: Store, artefacts: Artefacts, points: Points) -> Mapping[PointId, np.ndarray]:
    """Return the true new vectors of this plan that fit the points' present content."""
    record = store.journal.load()
    if record is None or record.stage is None:
        return {}
    plan: Plan = artefacts.load_plan()
    # The record of an earlier migration of the same name: under this plan nothing is written yet.
    if plan.follows(record):
        return {}
    found: dict[PointId, np.ndarray] = {}
    for batch in store.gallery(plan).read({"kind", "new"}, ids=points.ids):
        # Projected vectors are estimates; `full` may be measured on true ones only.
        encoded = pc.fill_null(pc.equal(batch["kind"], Kind.ENCODED.value), fill_value=False)
        rows = batch.filter(encoded)
        found.update(zip(rows["id"].to_pylist(), vectors_of(rows, "new"), strict=True))
    return found
