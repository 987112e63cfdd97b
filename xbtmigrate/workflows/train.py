"""Workflows: train-projector. Sample, pair, fit both directions, keep the best. Reads only."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from xbtmigrate.config import Config
from xbtmigrate.errors import TrainingError
from xbtmigrate.plan import Plan
from xbtmigrate.training.fit import FitReport, fit, share
from xbtmigrate.training.kinds import trainers_of
from xbtmigrate.training.orthogonal import SharedReport
from xbtmigrate.training.pairs import save_pairs
from xbtmigrate.types import Direction, Modality, PointId
from xbtmigrate.workflows.asking import judged_questions
from xbtmigrate.workflows.encoding import Report, encode_gallery
from xbtmigrate.workflows.pairing import Embedded, Material
from xbtmigrate.workflows.sampling import Points, survey, take
from xbtmigrate.workflows.trial import calibrated, fit_options, material_of
from xbtmigrate.workflows.wiring import Migration, open_migration

IMAGE_PAIRS = 2000
"""Images encoded for pairs, at most: unlike captions they are slow, and not always needed."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What was fitted.

    Attributes:
        plan: The plan it belongs to.
        material: Pairs and task.
        reports: Fit of each direction.
        folders: Where the kept projectors are.
        shared: Fit of the space that both models share, where there is one.
        shared_folder: Where its pair of maps is.
    """

    plan: Plan
    material: Material
    reports: Mapping[Direction, FitReport]
    folders: Mapping[Direction, Path]
    shared: SharedReport | None
    shared_folder: Path

    def document(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "migration": self.plan.migration,
            "plan": self.plan.digest,
            "pairs": {group.source.value: len(group) for group in self.material.pairs},
            "held_out": len(self.material.task.queries_new),
            "directions": {
                direction.value: self._direction(direction, report)
                for direction, report in self.reports.items()
            },
            "shared": self._shared(self.shared) if self.shared else None,
        }

    def _shared(self, report: SharedReport) -> dict[str, Any]:
        chosen = report.space.bridge.manifest.hyperparameters["lambda"]
        return {
            "folder": str(self.shared_folder),
            "seconds": report.seconds,
            "candidates": [
                {"lambda": bound, **scores.as_metrics(), "chosen": bound == chosen}
                for bound, scores in report.scores.items()
            ],
        }

    def _direction(self, direction: Direction, report: FitReport) -> dict[str, Any]:
        return {
            "kind": report.projector.kind,
            "folder": str(self.folders[direction]),
            "digest": report.projector.digest,
            "seconds": report.seconds,
            "baselines": {name: s.as_metrics() for name, s in report.baselines.items()},
            "uncertainty": dict(report.projector.manifest.uncertainty_metrics),
            "candidates": [
                {
                    "kind": candidate.kind,
                    "source": candidate.source.value,
                    "pairs": candidate.pairs,
                    "settings": dict(candidate.settings),
                    **candidate.scores.as_metrics(),
                    "cosine": candidate.cosine,
                    "seconds": candidate.seconds,
                    "chosen": place == 0,
                }
                for place, candidate in enumerate(report.candidates)
            ],
        }


def train(
    config: Config,
    *,
    pairs: int | None,
    direction: Literal["both", "bridge", "forward"],
    kinds: Sequence[str],
    threads: int,
    report: Report,
) -> Trained:
    """Fit projectors from the collection's own content.

    Args:
        config: The settings.
        pairs: Points to make pairs from; None for all.
        direction: Which way, or both.
        kinds: Names of kinds, or "auto".
        threads: Threads for training.
        report: Called with progress.

    Raises:
        ArtefactError: There is no plan.
        StaleError: The plan no longer fits.
        TrainingError: The collection does not give enough pairs.
    """
    trainers_of(kinds)
    with open_migration(config) as migration:
        plan = migration.artefacts.load_plan()
        plan.check_current(migration.binding())
        migration.refuse_while_under_way("a new projector would mix two maps in one gallery")
        points = _sample(migration, plan, pairs, report)
        new = _known_or_encoded(migration, points, report)
        material = material_of(migration, points, new, report)
        options = fit_options(migration, kinds, threads)
        directions = list(Direction) if direction == "both" else [Direction(direction)]
        reports = {
            each: fit(each, material.pairs, material.task, options, _named(report, each))
            for each in directions
        }
        artefacts = migration.artefacts
        save_pairs(artefacts.pairs_file, material.pairs)
        folders = {each: artefacts.projector_folder(each) for each in directions}
        for each, found in reports.items():
            found.projector.save(folders[each])
        if Direction.FORWARD in reports:
            artefacts.order_file.unlink(missing_ok=True)
        shared = share(material.pairs, material.task, options, reports)
        shutil.rmtree(artefacts.shared_folder, ignore_errors=True)
        if shared is not None:
            shared.space.save(artefacts.shared_folder)
        if direction == "both":
            report("calibrating", 0, 0)
            _calibrate(migration, points, new, reports)
    return Trained(plan, material, reports, folders, shared, artefacts.shared_folder)


def _calibrate(
    migration: Migration, points: Points, new: Embedded, reports: Mapping[Direction, FitReport]
) -> None:
    fits = reports[Direction.BRIDGE], reports[Direction.FORWARD]
    arrangement = calibrated(migration, points, new, fits)
    if arrangement is not None:
        migration.artefacts.save_arrangement(arrangement)


def _named(report: Report, direction: Direction) -> Callable[[str], None]:
    return lambda what: report(f"{direction}: {what}", 0, 0)


def _sample(migration: Migration, plan: Plan, pairs: int | None, report: Report) -> Points:
    """Take the points of the pairs; what was encoded for the plan is sure to be among them."""
    reader = migration.reader()
    held_out = _asked_for(migration)
    count = plan.coverage.points if pairs is None else pairs
    seen = survey(reader, sample=max(count, 1) + len(held_out), seed=plan.seed, report=report)
    points = take(reader, [point for point in seen.sample if point not in held_out][:count])
    if not len(points):
        raise TrainingError(
            "no point has both its source and an old vector",
            "check payload and qdrant.vector, and plan again",
        )
    return points


def _asked_for(migration: Migration) -> set[PointId]:
    """Points that the configured queries ask for: pairs of them would spoil the measurement."""
    relevant = [points for asked in judged_questions(migration) for points in asked.relevant]
    return {point for points in relevant for point in points}


def _known_or_encoded(migration: Migration, points: Points, report: Report) -> Embedded:
    """New vectors of the embedded field; for images only so many are encoded beyond the known."""
    if migration.stored is Modality.TEXT:
        found = encode_gallery(
            migration.new_encoder, migration.known, points, Modality.TEXT, report=report
        )
        return Embedded(*found)
    vectors, valid = migration.known.find(points.hashes)
    missing = np.flatnonzero(~valid)[: max(0, IMAGE_PAIRS - int(valid.sum()))]
    vectors[missing], valid[missing] = encode_gallery(
        migration.new_encoder,
        migration.known,
        points.rows(missing),
        Modality.IMAGE,
        report=report,
        stage="images, new model",
    )
    return Embedded(vectors, valid)
