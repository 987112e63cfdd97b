"""Workflows: evaluate. Every cell and the backfilling curve on judged queries. Reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from xbtmigrate.config import Config
from xbtmigrate.errors import ArtefactError, CollectionError, EncoderError
from xbtmigrate.evaluation.comparison import Comparison, compare
from xbtmigrate.evaluation.recommendation import Costs, Criteria, recommend
from xbtmigrate.plan import Plan
from xbtmigrate.projectors import Projector
from xbtmigrate.serving.arrangement import Arrangement
from xbtmigrate.types import Direction, Kind, Modality, PointId, vectors_of
from xbtmigrate.workflows.encoding import Report, encode_gallery, encode_readable
from xbtmigrate.workflows.measuring import Judged, Maps, Trial, judge
from xbtmigrate.workflows.questions import Questions, read_questions
from xbtmigrate.workflows.sampling import Points, survey, take
from xbtmigrate.workflows.wiring import Migration, open_migration

METRIC = "recall@10"
PUBLIC = ("recall@1", "recall@5", "recall@10", "mrr@10", "ndcg@10", "map@100")


def measure(
    config: Config,
    queries: Path,
    *,
    split: str | None,
    max_gallery: int,
    max_queries: int,
    report: Report,
) -> dict[str, Any]:
    """Evaluate on a query file.

    Args:
        config: The settings.
        queries: Parquet with `text` and `relevant`.
        split: Only rows of this split.
        max_gallery: Points at most; relevant ones are always among them.
        max_queries: Queries at most.
        report: Called with progress.

    Returns:
        The stable JSON form.

    Raises:
        ConfigError: The query file is not usable.
        CollectionError: None of its relevant points is in the collection.
        XbtMigrateError: A part failed.
    """
    questions = read_questions(queries, split).sampled(max_queries, config.plan.seed)
    with open_migration(config) as migration:
        bridge = _projector(migration, Direction.BRIDGE)
        forward = _projector(migration, Direction.FORWARD)
        trial, warnings = _trial(migration, questions, max_gallery, report)
        report("judging", 0, 0)
        arrangement = _arrangement(migration, bridge, forward)
        judged = judge(trial, Maps(bridge, forward, arrangement), config.plan.seed)
    if bridge is None and forward is None:
        warnings.append("no projector was trained yet: run `xbtmigrate train-projector`")
    return _document(config, trial, judged, warnings)


def _trial(
    migration: Migration, questions: Questions, max_gallery: int, report: Report
) -> tuple[Trial, list[str]]:
    """Collect gallery and queries in both models' spaces."""
    warnings: list[str] = []
    points = _gallery(migration, questions, max_gallery, report)
    vectors, valid = _new_vectors(migration, points, report)
    if not valid.all():
        warnings.append(f"{int((~valid).sum())} points left out: they cannot be embedded")
    gallery = points.rows(np.flatnonzero(valid))
    asked = questions.answerable(set(gallery.ids))
    if not len(asked):
        raise CollectionError(
            f"none of the relevant points of {len(questions)} queries is in "
            f"'{migration.facts.collection}'",
            "the column relevant must hold point ids of this collection, as strings",
        )
    if len(asked) < len(questions):
        lost = len(questions) - len(asked)
        warnings.append(f"{lost} queries left out: their relevant points are not in the gallery")
    if len(gallery) < migration.facts.points:
        warnings.append(
            f"the gallery is a sample of {len(gallery):,} of {migration.facts.points:,} points; "
            "every figure is higher than on the whole collection"
        )
    old = encode_readable(
        migration.old_encoder, asked.texts, Modality.TEXT, report=report, stage="queries, old model"
    )
    new = encode_readable(
        migration.new_encoder, asked.texts, Modality.TEXT, report=report, stage="queries, new model"
    )
    usable = np.flatnonzero(old[1] & new[1])
    if not len(usable):
        raise EncoderError(
            "no query could be embedded by both models",
            "for precomputed vectors the files must hold the query texts too",
        )
    if len(usable) < len(asked):
        warnings.append(f"{len(asked) - len(usable)} queries left out: a model cannot embed them")
    trial = Trial(
        questions=asked.kept(usable),
        ids=gallery.ids,
        queries_old=old[0][usable],
        queries_new=new[0][usable],
        old=gallery.old,
        new=vectors[valid],
        old_distance=migration.facts.distance,
        new_distance=migration.new_distance,
    )
    return trial, warnings


def _gallery(
    migration: Migration, questions: Questions, max_gallery: int, report: Report
) -> Points:
    """The whole collection, or a uniform sample that holds every relevant point."""
    reader = migration.reader()
    if migration.facts.points <= max_gallery:
        report("reading the collection", 0, 0)
        return take(reader)
    seen = survey(reader, sample=max_gallery, seed=migration.config.plan.seed, report=report)
    needed = sorted({point for relevant in questions.relevant for point in relevant})
    wanted = dict.fromkeys([*needed, *seen.sample])
    return take(reader, list(wanted)[: max(max_gallery, len(needed))])


def _new_vectors(
    migration: Migration, points: Points, report: Report
) -> tuple[np.ndarray, np.ndarray]:
    """True new vectors: those the backfill has written, those known, and the rest encoded now."""
    written = _written(migration, points)
    missing = [row for row, point in enumerate(points.ids) if point not in written]
    vectors = np.zeros((len(points), migration.new_encoder.dimension), np.float32)
    valid = np.ones(len(points), np.bool_)
    for row, point in enumerate(points.ids):
        if point in written:
            vectors[row] = written[point]
    if missing:
        found = encode_gallery(
            migration.new_encoder,
            migration.known,
            points.rows(missing),
            migration.stored,
            report=report,
        )
        vectors[missing], valid[missing] = found
    return vectors, valid


def _written(migration: Migration, points: Points) -> Mapping[PointId, np.ndarray]:
    """True new vectors in the collection, of this plan and of the points' present content."""
    record = migration.journal.load()
    if record is None or record.stage is None:
        return {}
    plan: Plan = migration.artefacts.load_plan()
    found: dict[PointId, np.ndarray] = {}
    for batch in migration.gallery(plan).read({"source", "new"}, ids=points.ids):
        encoded = pc.fill_null(pc.equal(batch["kind"], Kind.ENCODED.value), fill_value=False)
        rows = batch.filter(encoded)
        found.update(zip(rows["id"].to_pylist(), vectors_of(rows, "new"), strict=True))
    return found


def _projector(migration: Migration, direction: Direction) -> Projector | None:
    """Load a projector; a missing one is no error here, a damaged or foreign one is."""
    folder = migration.artefacts.projector_folder(direction)
    if not folder.exists():
        return None
    projector = Projector.load(folder)
    if projector.manifest.new_model != migration.new_encoder.fingerprint:
        raise ArtefactError(
            f"the projector in {folder} was made for another new model",
            "train it again with `xbtmigrate train-projector`",
        )
    return projector


def _arrangement(
    migration: Migration, bridge: Projector | None, forward: Projector | None
) -> Arrangement | None:
    """Load the calibration where it belongs to these projectors."""
    found = migration.artefacts.load_arrangement()
    if found is None or bridge is None or forward is None:
        return None
    return found if found.projectors == (bridge.digest, forward.digest) else None


def _document(
    config: Config,
    trial: Trial,
    judged: Judged,
    warnings: Sequence[str],
) -> dict[str, Any]:
    seed, keep, full = config.plan.seed, judged.cells["keep"], judged.cells["full"]
    criteria = Criteria(target=config.plan.target, seed=seed)
    advice = recommend(judged.cells, judged.deployable, Costs(), criteria)
    return {
        "metric": METRIC,
        "query_count": len(trial.questions),
        "gallery_count": len(trial.ids),
        "seed": seed,
        "systems": [
            {"name": name, **_system(compare(scores, keep, full, seed=seed))}
            for name, scores in judged.cells.items()
        ],
        "curves": [
            {
                "ordering": curve.ordering,
                "serving": curve.serving,
                "fractions": list(curve.fractions),
                **{name: curve.values(name) for name in PUBLIC},
                "auc": curve.auc(METRIC),
                "no_regret": curve.no_regret(keep, METRIC),
                "fraction_to_full": {
                    f"{share:g}": fraction
                    for share, fraction in curve.fractions_to_full(full, METRIC).items()
                },
            }
            for curve in judged.curves
        ],
        "recommendation": {
            "strategy": advice.strategy.value,
            "ordering": advice.ordering,
            "serving": advice.serving,
            "fraction": advice.fraction,
            "reason": advice.reason,
        },
        "warnings": list(warnings),
    }


def _system(found: Comparison) -> dict[str, Any]:
    """Figures of one system beside keep; intervals and criteria by metric."""
    return {
        **{name: found.means[name] for name in PUBLIC},
        "ci95": {name: [found.ci95[name].low, found.ci95[name].high] for name in PUBLIC},
        "p_value": {name: found.p_value[name] for name in PUBLIC},
        "compatible": {name: found.compatible[name] for name in PUBLIC},
        "gap_closed": {name: found.gap_closed[name] for name in PUBLIC},
        "negative_flips": found.negative_flips,
    }
