"""Run `train-projector`: sample, pair, fit both directions, keep the best. Writes files only."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.config import Config
from xbtmigrate.documents.train import (
    CalibrationDocument,
    CentringDocument,
    DirectionDocument,
    LoraDocument,
    TrainDocument,
)
from xbtmigrate.errors import ConfigError
from xbtmigrate.migration.phases import Phase
from xbtmigrate.migration.plan import Plan
from xbtmigrate.projectors import Projector
from xbtmigrate.scoring.centring import Centring
from xbtmigrate.side_information import TextSide
from xbtmigrate.training.fit import FitOptions, FitReport, fit
from xbtmigrate.training.kinds.lora import LoraReport, LoraTask, TextTower, fit_lora
from xbtmigrate.training.pairs import joined_pairs, save_pairs
from xbtmigrate.training.race import OnFit
from xbtmigrate.training.trainers import find_trainers
from xbtmigrate.types import Direction, PointId
from xbtmigrate.workflows.encode_points import Report
from xbtmigrate.workflows.evaluate.collect import MIN_UNSEEN
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.next_step import find_next_step
from xbtmigrate.workflows.points import Points
from xbtmigrate.workflows.store import Store, open_store
from xbtmigrate.workflows.train.calibrate import CalibrationResult
from xbtmigrate.workflows.train.check_words import check_words
from xbtmigrate.workflows.train.learn import learn_from_queries
from xbtmigrate.workflows.train.make_pairs import EmbeddedRows, Material, fit_options, make_material
from xbtmigrate.workflows.train.text_side import add_text_sides
from xbtmigrate.workflows.train.training_sample import (
    draw_points,
    embed_points,
    load_trainable_plan,
)
from xbtmigrate.workflows.workspace import Workspace


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The fitted projectors.

    Attributes:
        plan: The plan it belongs to.
        artefacts: Where everything is.
        material: Pairs and task.
        reports: Fit of each direction.
        lora: Effect of the additions to the new model's text tower; None without `--lora`.
        learned: What queries with known answers taught; None where there were none.
        centring: How far queries of the new space are centred; None where that was not fitted.
    """

    plan: Plan
    artefacts: Artefacts
    material: Material
    reports: Mapping[Direction, FitReport]
    lora: LoraReport | None
    learned: CalibrationResult | None
    centring: Centring | None

    def document(self) -> TrainDocument:
        """Return the document of `train-projector`."""
        return {
            "migration": self.plan.migration,
            "plan": self.plan.digest,
            "pairs": {group.source: len(group) for group in self.material.pairs},
            "held_out": len(self.material.task.queries_new),
            "directions": {
                direction: self._direction(direction, report)
                for direction, report in self.reports.items()
            },
            "lora": self._lora(self.lora) if self.lora else None,
            "calibration": self._calibration(self.learned) if self.learned else None,
            "centring": self._centring(self.centring) if self.centring else None,
            **find_next_step(Phase.TRAINED, self.plan),
        }

    def _calibration(self, learned: CalibrationResult) -> CalibrationDocument:
        fusion = learned.calibration.fusion
        return {"basis": learned.basis, "queries": fusion.queries, "loss": fusion.loss}

    def _centring(self, centring: Centring) -> CentringDocument:
        return {
            "basis": centring.basis,
            "queries": centring.queries,
            "strengths": list(centring.strengths),
        }

    def _lora(self, report: LoraReport) -> LoraDocument:
        return {
            "folder": str(self.artefacts.lora_folder),
            "pairs": report.pairs,
            "seconds": report.seconds,
            "off": report.off.as_metrics(),
            "on": report.on.as_metrics(),
        }

    def _direction(self, direction: Direction, report: FitReport) -> DirectionDocument:
        side, projector = self.plan.binding.get("qdrant.side_vector"), report.projector
        text_side = projector.text_side
        return {
            "kind": projector.kind,
            "side_vector": side if projector.d_side and not text_side else None,
            "side_information": list(text_side.sizes) if text_side else [],
            "folder": str(self.artefacts.projector_folder(direction)),
            "digest": report.projector.digest,
            "seconds": report.seconds,
            "baselines": {name: s.as_metrics() for name, s in report.baselines.items()},
            "uncertainty": dict(report.projector.manifest.uncertainty_metrics),
            "candidates": [
                {
                    "kind": candidate.kind,
                    "source": candidate.source,
                    "pairs": candidate.pairs,
                    "settings": dict(candidate.settings),
                    **candidate.scores.as_metrics(),
                    "cosine": candidate.cosine,
                    "seconds": candidate.seconds,
                    # Candidates are sorted, best first.
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
    lora: int = 0,
    report: Report,
) -> TrainResult:
    """Fit projectors from the collection's own content.

    Args:
        config: The settings.
        pairs: Points to make pairs from; None for all.
        direction: Which way, or both.
        kinds: Names of kinds, or "auto".
        threads: Threads for training.
        lora: Passes over the pairs to tune the new text tower by; 0 leaves it as it is.
        report: Called with progress.

    Raises:
        ArtefactError: There is no plan.
        ConfigError: An unknown kind, or LoRA where there is no text tower to tune.
        StaleError: The plan no longer fits.
        TrainingError: The collection does not give enough pairs.
    """
    refuse_request(direction, kinds, lora)
    with open_store(config) as store:
        models = Models(config)
        workspace = Workspace(config, models)
        # Refuses an encoder without a text tower before anything is read.
        tower = _text_tower(models) if lora else None
        plan = load_trainable_plan(store, models, workspace.artefacts)
        points, fold = draw_points(store, workspace, plan, pairs, report)
        new = embed_points(models, workspace, points, report)
        directions = list(Direction) if direction == "both" else [Direction(direction)]
        points, text_sides = add_text_sides(
            *(store, models, workspace, points, report), directions=directions
        )
        material = _make_material(
            *(store, models, workspace, points, new), text_sides=text_sides, report=report
        )
        options = replace(fit_options(store, models, kinds, threads), text_sides=text_sides)
        reports = fit_directions(directions, material, options, report)
        if Direction.BRIDGE in reports:
            reports[Direction.BRIDGE] = check_words(
                *(store, models, workspace.judged_queries, points),
                found=reports[Direction.BRIDGE],
                report=report,
            )
        keep_fits(workspace.artefacts, points, new, material, reports, fold=fold)
        tuned = None
        if tower is not None:
            task = _lora_task(points, material, reports[Direction.BRIDGE].projector)
            report("tuning the text tower", 0, 0)
            tuned = _tune(tower, task, workspace.artefacts, options, epochs=lora)
        learned, centring = learn_from_queries(
            store, models, workspace, (points, new), reports=reports, options=options, report=report
        )
    return TrainResult(plan, workspace.artefacts, material, reports, tuned, learned, centring)


def refuse_request(direction: str, kinds: Sequence[str], lora: int) -> None:
    """Raise for kinds that do not exist, and for LoRA that nothing would use."""
    # Called only to raise: an unknown kind must fail before anything is encoded.
    find_trainers(kinds)
    if lora and direction == "forward":
        raise ConfigError("--lora tunes queries for the bridge", "leave out --direction forward")


def fit_directions(
    directions: Sequence[Direction], material: Material, options: FitOptions, report: Report
) -> dict[Direction, FitReport]:
    """Fit the projector of each direction."""
    return {
        each: fit(each, material.pairs, material.task, options, _named(report, each))
        for each in directions
    }


def keep_fits(
    artefacts: Artefacts,
    points: Points,
    new: EmbeddedRows,
    material: Material,
    reports: Mapping[Direction, FitReport],
    *,
    fold: Sequence[PointId],
) -> None:
    """Save what was fitted and on which points, and delete what the replaced maps made."""
    save_pairs(artefacts.pairs_file, joined_pairs([*material.pairs, *material.task.pairs]))
    # Delete first: a kill in between must not leave results of the old maps beside the new ones.
    # The order scores points by the forward map's uncertainty, queries are centred for its gallery;
    # LoRA was tuned through the bridge.
    if Direction.FORWARD in reports:
        artefacts.order_file.unlink(missing_ok=True)
        artefacts.save_centring(None)
    if Direction.BRIDGE in reports:
        shutil.rmtree(artefacts.lora_folder, ignore_errors=True)
    for direction, found in reports.items():
        found.projector.save(artefacts.projector_folder(direction))
        shutil.rmtree(artefacts.further_folder(direction), ignore_errors=True)
        for other in found.others:
            other.save(artefacts.further_folder(direction) / other.kind)
    # These vectors are paid for, so the curves of `evaluate` count them as re-encoded first.
    artefacts.save_spent(points.rows(np.flatnonzero(new.valid)).ids)
    # `evaluate` may only use queries whose answers these maps have not seen.
    artefacts.save_fold(fold)


def _text_tower(models: Models) -> TextTower:
    """Return the part of the new model that LoRA tunes."""
    found = getattr(models.new, "text_tower", None)
    if found is None or not models.config.payload.text:
        raise ConfigError(
            "LoRA tunes the text tower of an open_clip model, on texts of the payload",
            'use new_model.encoder = "open_clip" and payload.text, or leave out --lora',
        )
    return TextTower(*found())


def _lora_task(points: Points, material: Material, bridge: Projector) -> LoraTask:
    """Return texts and stored old vectors of the pairs' points, none of them held out."""
    place = {point: row for row, point in enumerate(points.ids)}
    # The first group has all points of the pairs; others only those with further vectors.
    rows = [place[point] for point in material.pairs[0].ids if points.texts[place[point]]]
    return LoraTask([str(points.texts[row]) for row in rows], points.old[rows], bridge)


def _tune(
    tower: TextTower, task: LoraTask, artefacts: Artefacts, options: FitOptions, *, epochs: int
) -> LoraReport:
    return fit_lora(
        tower,
        task,
        artefacts.lora_folder,
        epochs=epochs,
        seed=options.seed,
        threads=options.threads,
    )


def _named(report: Report, direction: Direction) -> OnFit:
    return lambda done, total, best: report(f"fitting {direction}", done, total, best)


def _make_material(
    store: Store,
    models: Models,
    workspace: Workspace,
    points: Points,
    new: EmbeddedRows,
    *,
    text_sides: Mapping[Direction, TextSide],
    report: Report,
) -> Material:
    """Make pairs, and leave the held-out ones to `evaluate` if it has no other unseen points."""
    made = make_material(*(models, workspace, points, new), text_sides=text_sides, report=report)
    # Points that judged queries ask for are not in the sample in the first place.
    if workspace.judged_queries or store.facts.points - len(points) >= MIN_UNSEEN:
        return made
    return replace(made, task=replace(made.task, pairs=()))
