"""Measure every strategy for a plan, on a sample and with closed-form projectors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from xbtmigrate.errors import EncoderError, TrainingError
from xbtmigrate.evaluation.curves import Curve
from xbtmigrate.evaluation.queries import Questions, choose_held_out
from xbtmigrate.evaluation.recommendation import Recommendation
from xbtmigrate.evaluation.retrieval import METRICS
from xbtmigrate.migration.plan import Advice, CurvePoint, Measurement, System
from xbtmigrate.scoring.mixture import SINGLE
from xbtmigrate.side_information import TextSide
from xbtmigrate.training.fit import FitReport, fit
from xbtmigrate.types import Direction
from xbtmigrate.workflows.encode_points import Report, encode_gallery, encode_questions
from xbtmigrate.workflows.evaluate.cost import Workload, estimate_costs, to_compare
from xbtmigrate.workflows.evaluate.embed_queries import CollectedPoints, add_answers, build_trial
from xbtmigrate.workflows.evaluate.estimate_keep import estimate_keep
from xbtmigrate.workflows.evaluate.experiment import CurveOptions, Maps, judge
from xbtmigrate.workflows.evaluate.query_sources import make_neighbour_trial, make_questions
from xbtmigrate.workflows.evaluate.results import FLATTERED, METRIC, Findings
from xbtmigrate.workflows.evaluate.trial import Trial
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.points import Points
from xbtmigrate.workflows.store import Store
from xbtmigrate.workflows.train.calibrate import calibrate_on_points
from xbtmigrate.workflows.train.centre import centre
from xbtmigrate.workflows.train.make_pairs import EmbeddedRows, fit_options, make_material
from xbtmigrate.workflows.train.text_side import add_text_sides
from xbtmigrate.workflows.workspace import Workspace, read_judged_questions

MAX_QUERIES = 500
MIN_QUERIES = 20
# Closed forms fit in seconds and need no torch, so `plan` runs in the basic installation.
QUICK_KINDS = ("compatible", "procrustes", "ridge", "gaussian_process")
QUICK_ORDERS = ("random", "uncertainty")
SAMPLE = "sample"
"""Prefix of a plan's figures: its gallery is a sample, so they differ from those of `evaluate`."""


@dataclass(frozen=True, slots=True)
class SampleResult:
    """What was measured on the sample.

    Attributes:
        measurement: The figures, for the plan.
        findings: All that was measured.
        warnings: What limits the figures.
    """

    measurement: Measurement
    findings: Findings
    warnings: Sequence[str]

    def document(self, advice: Recommendation, warnings: Sequence[str]) -> Mapping[str, object]:
        """Return the figures of the sample in the form of `evaluate`."""
        content = self.findings.document(advice)
        return {**content, "task": SAMPLE, "directions": [], "gates": [], "warnings": warnings}

    def advise(self, work: Workload, target: float, must_leave: str) -> Recommendation:
        """Recommend a strategy for this workload."""
        return self.findings.advise(target, to_compare(estimate_costs(work, 1.0)), must_leave)


def advice_of(found: Recommendation) -> Advice:
    """Convert a recommendation to the form of the plan; the share is rounded up."""
    return Advice(
        strategy=found.strategy,
        fraction=math.ceil(100 * found.fraction) / 100,
        ordering=found.ordering or "",
        serving=found.serving or "",
        reason=found.reason,
    )


def judge_sample(
    store: Store,
    models: Models,
    workspace: Workspace,
    points: Points,
    new: EmbeddedRows,
    *,
    report: Report,
) -> SampleResult:
    """Measure every strategy on a sample.

    Args:
        store: What the migration has in Qdrant.
        models: Both models.
        workspace: The migration's files.
        points: Sampled points.
        new: Their true new vectors.
        report: Called with progress.
    """
    seed = store.config.plan.seed
    points, text_sides = add_text_sides(store, models, workspace, points, report)
    forward_side = text_sides.get(Direction.FORWARD)
    trial, warnings = _trial(store, models, workspace, points, new, text_side=forward_side)
    questions = trial.questions
    if questions.limits:
        made = f"made queries ({questions.basis}): " if questions.provisional else ""
        warnings.append(f"{made}{questions.limits}")
    # A map fitted on the answers to the queries would look better than it is.
    held = choose_held_out([trial.questions], trial.ids, seed)
    trial = trial.keep_queries(trial.questions.find_within(held))
    searched = set(trial.ids) - held
    # Only points whose true vector is known, and that no query asks for.
    free = [row for row, point in enumerate(points.ids) if new.valid[row] and point in searched]
    known = EmbeddedRows(new.vectors[free], np.ones(len(free), np.bool_))
    try:
        maps, forward = _quick_maps(
            *(store, models, workspace),
            points.rows(free),
            known,
            text_sides=text_sides,
            report=report,
        )
        if store.config.serving.centre_queries:
            maps = replace(maps, centring=centre(trial, forward, models.stored))
    except TrainingError as error:
        # Too few pairs for a projector are no reason to fail: `keep` and `full` need none, unless
        # only a bridge can stand for keep.
        maps = Maps()
        warnings.append(f"no projector was measured: {error.message}")
    trial = estimate_keep(trial, maps.bridge, models.stored)
    if trial.estimates_keep:
        warnings.append(trial.questions.limits)
    trained = {points.ids[row] for row in free}
    paid = np.flatnonzero([point in trained for point in trial.ids])
    judged = judge(trial, maps, _asked_curves(workspace, maps, paid))
    findings = Findings(models.stored, trial, maps, judged, seed, task=SAMPLE)
    if findings.flattered:
        warnings.append(FLATTERED)
    return SampleResult(_measurement(trial, findings, judged.deployable), findings, warnings)


def _measurement(trial: Trial, findings: Findings, curves: Sequence[Curve]) -> Measurement:
    return Measurement(
        basis=trial.questions.basis,
        provisional=trial.questions.provisional,
        query_count=len(trial.questions),
        gallery_count=len(trial.ids),
        systems=[_system(row) for row in findings.figures()["systems"]],
        curve=_curve_points(curves),
    )


def _system(row: Mapping[str, Any]) -> System:
    """Put one system's figures under the names of the sample's own task."""
    return System(
        name=row["name"],
        metrics={f"{SAMPLE}_{name}": row[name] for name in METRICS},
        against_keep=row["against_keep"][METRIC],
        by_definition=row["by_definition"],
        estimated=row["estimated"],
    )


def _asked_curves(workspace: Workspace, maps: Maps, paid: npt.NDArray[np.intp]) -> CurveOptions:
    """Return the curves of the orders that need no training of their own.

    Args:
        workspace: The migration's files.
        maps: What was fitted.
        paid: Rows that it was fitted on.
    """
    return CurveOptions(
        make=lambda name: workspace.ordering(name, maps.forward),
        orders=QUICK_ORDERS,
        spent=paid,
    )


def _curve_points(curves: Sequence[Curve]) -> list[CurvePoint]:
    """Return the curve that the plan shows: the best one of the single space, by its mean."""
    # It answers after the cutover, in one search and without the old model. Where that is gone and
    # nothing can be projected, there is no curve.
    if not curves:
        return []
    single = [curve for curve in curves if curve.serving == SINGLE.name]
    shown = max(single or curves, key=lambda curve: curve.auc())
    return [
        CurvePoint(fraction=fraction, sample_recall_at_10=value)
        for fraction, value in zip(shown.fractions, shown.values(), strict=True)
    ]


def _trial(
    store: Store,
    models: Models,
    workspace: Workspace,
    points: Points,
    new: EmbeddedRows,
    *,
    text_side: TextSide | None,
) -> tuple[Trial, list[str]]:
    """Find queries for the sample: judged ones, or else the best that can be made from the data.

    Points that answer made queries cannot be trained on, so at most a third of the points do.
    """
    vectors, points = new.vectors[new.valid], points.rows(np.flatnonzero(new.valid))
    warnings: list[str] = []
    for source in (*read_judged_questions(store.config), *make_questions(store, models, points)):
        most = min(MAX_QUERIES, len(points) // 3) if source.provisional else MAX_QUERIES
        questions = source.sample(most, store.config.plan.seed)
        # Judged queries may ask for points outside the sample, which no system could find.
        found = add_answers(
            *(store, CollectedPoints(points, vectors), questions),
            embed=lambda extra: encode_gallery(models.new, workspace.cache, extra, models.stored),
            text_side=text_side,
        )
        trial = _asked(store, models, questions, found.points, vectors=found.new)
        if trial is not None:
            return trial, warnings
        warnings.append(f"not used, because the models could not embed them: {questions.basis}")
    return make_neighbour_trial(store, models, points, vectors), warnings


def _asked(
    store: Store, models: Models, questions: Questions, gallery: Points, *, vectors: np.ndarray
) -> Trial | None:
    """Embed queries with both models; None where too few can be embedded by both."""
    questions = questions.keep_answerable(set(gallery.ids))
    try:
        # A precomputed encoder only knows the texts of its file, and may refuse made queries.
        embedded = encode_questions(models, questions)
    except EncoderError:
        return None
    # A tiny gallery has fewer queries than that and is measured nevertheless.
    if len(embedded[0]) < min(MIN_QUERIES, len(gallery)):
        return None
    return build_trial(store, gallery, vectors, embedded)


def _quick_maps(
    store: Store,
    models: Models,
    workspace: Workspace,
    points: Points,
    new: EmbeddedRows,
    *,
    text_sides: Mapping[Direction, TextSide],
    report: Report,
) -> tuple[Maps, FitReport]:
    """Fit both directions in closed form, and calibrate where queries can be made."""
    material = make_material(
        *(models, workspace, points, new), text_sides=text_sides, report=report
    )
    options = replace(fit_options(store, models, QUICK_KINDS), text_sides=text_sides)
    bridge = fit(Direction.BRIDGE, material.pairs, material.task, options)
    forward = fit(Direction.FORWARD, material.pairs, material.task, options)
    learned = calibrate_on_points(
        *(store, models, points, new, (bridge, forward)), learn_benefit=False
    )
    calibration = None if learned is None else learned.calibration
    return Maps(bridge.projector, forward.projector, calibration), forward
