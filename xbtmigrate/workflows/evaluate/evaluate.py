"""Run `evaluate`: every system and the backfilling curve, by kind of query. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.config import Config
from xbtmigrate.documents.evaluate import EvaluateDocument
from xbtmigrate.documents.next_step import NextDocument
from xbtmigrate.errors import ArtefactError
from xbtmigrate.evaluation.answer_ranks import evaluate
from xbtmigrate.evaluation.quality_gate import Gate
from xbtmigrate.evaluation.recommendation import Recommendation
from xbtmigrate.evaluation.retrieval import QueryScores, SearchSpace
from xbtmigrate.evaluation.servings import find_measured
from xbtmigrate.migration.phases import FREE, Phase
from xbtmigrate.migration.plan import Cost
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.projectors import Projector
from xbtmigrate.scoring.centring import Centring
from xbtmigrate.types import Direction, Modality, Strategy
from xbtmigrate.workflows.encode_points import Report
from xbtmigrate.workflows.evaluate.collect import EvaluationOptions, make_trial
from xbtmigrate.workflows.evaluate.cost import to_compare
from xbtmigrate.workflows.evaluate.curves import USUAL, Curves, choose_curves
from xbtmigrate.workflows.evaluate.estimate_keep import estimate_keep
from xbtmigrate.workflows.evaluate.experiment import Maps, judge
from xbtmigrate.workflows.evaluate.last_judgement import save_judgement
from xbtmigrate.workflows.evaluate.report import check_page, write_page
from xbtmigrate.workflows.evaluate.results import FLATTERED, METRIC, Findings
from xbtmigrate.workflows.evaluate.trial import Trial
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.next_step import (
    BACKFILL,
    PLAN,
    find_next_step,
    find_phase,
    next_step,
)
from xbtmigrate.workflows.prerequisites import route_option
from xbtmigrate.workflows.store import Store, open_store
from xbtmigrate.workflows.workspace import Workspace

JUDGE = next_step(
    "xbtmigrate evaluate",
    "Write judged queries first (docs/judging.md) and name them in plan.queries: they decide.",
)
UNSWITCHED = (Phase.BACKFILLING, Phase.PAUSED, Phase.BACKFILLED, Phase.VERIFIED)


def measure(
    config: Config,
    wanted: EvaluationOptions,
    *,
    gates: Sequence[Gate] = (),
    page: Path | None = None,
    curves: Curves = USUAL,
    must_leave: str = "",
    report: Report,
) -> EvaluateDocument:
    """Evaluate on judged queries, or on made ones where there are none.

    Args:
        config: The settings.
        wanted: The queries, and the size of the gallery.
        gates: Conditions on the recommended move; their outcome is part of the result.
        page: Also write the report here.
        curves: Which curves of the mixed gallery to draw.
        must_leave: Why the old model cannot be kept; "" where it can.
        report: Called with progress.

    Raises:
        ConfigError: The query file is not usable, there is no such serving, the page cannot be
            written, or there are gates and no judged queries.
        CollectionError: None of its relevant points is in the collection.
        XbtMigrateError: A part failed.
    """
    find_measured(curves.servings or ())  # an unknown one is refused before anything is encoded
    if page is not None:
        check_page(page)
    with open_store(config) as store:
        models = Models(config)
        workspace = Workspace(config, models)
        maps = _maps(models, workspace.artefacts)
        trials, warnings = make_trial(store, models, workspace, wanted, report, decides=bool(gates))
        report("measuring", 0, 0)
        trials = [estimate_keep(one, maps.bridge, models.stored) for one in trials]
        warnings += [one.questions.limits for one in trials if one.estimates_keep]
        findings = [_findings(store, models, workspace, maps, one, curves=curves) for one in trials]
        warnings += [FLATTERED] * any(each.flattered for each in findings)
        if maps.bridge is None and maps.forward is None:
            warnings.append("no projector was trained yet: run `xbtmigrate train-projector`")
        costs = _load_costs(workspace.artefacts)
        # The first kind of queries decides; the others can only warn (`_against`).
        advice = findings[0].advise(config.plan.target, to_compare(costs), must_leave)
        # `cutover` checks this recommendation, so it is kept even if no gate was given.
        save_judgement(models, workspace.artefacts, advice, findings[0].crossover)
        following = _next(store, workspace.artefacts, advice) if advice.strategy else JUDGE
        content = _document(findings, gates, advice, warnings, following)
        if page is not None:
            write_page(page, store.facts, content, costs, following)
    return content


def _load_costs(artefacts: Artefacts) -> Sequence[Cost]:
    # Costs come from the plan; without one, strategies are compared by quality alone.
    return artefacts.load_plan().costs if artefacts.plan_file.exists() else []


def _document(
    findings: Sequence[Findings],
    gates: Sequence[Gate],
    advice: Recommendation,
    warnings: Sequence[str],
    following: NextDocument,
) -> EvaluateDocument:
    first, *others = findings
    return {
        **first.document(advice),
        "metric": METRIC,
        "seed": first.seed,
        "directions": [each.figures() for each in others],
        "gates": [first.verdict(gate, advice) for gate in gates],
        "warnings": [*warnings, *_against(others, advice)],
        **following,
    }


def _next(store: Store, artefacts: Artefacts, advice: Recommendation) -> NextDocument:
    """Return how the recommendation is followed from where the migration stands."""
    assert advice.strategy is not None
    record, plan = store.journal.load(), None
    if artefacts.plan_file.exists():
        plan = artefacts.load_plan()
    phase = find_phase(record, plan, artefacts)
    route = route_option(store.connection, plan) if plan else ""
    free = phase is None or phase in FREE
    if not free and phase not in UNSWITCHED:
        return find_next_step(phase, plan)
    if advice.strategy is Strategy.KEEP:
        return next_step(None if free else "xbtmigrate abort", "Leave the collection as it is.")
    if free and (plan is None or plan.strategy is not advice.strategy):
        return next_step(PLAN, f'Set plan.strategy = "{advice.strategy}" first.')
    spec = STRATEGIES[advice.strategy]
    reached = 0.0 if free or record is None else record.fraction
    trained = phase is not Phase.PLANNED or spec.only_encodes
    if spec.writes and trained and advice.fraction > reached:
        return next_step(f"{BACKFILL} --fraction {advice.fraction:g}")
    return find_next_step(phase, plan, route=route)


def _findings(
    store: Store, models: Models, workspace: Workspace, maps: Maps, trial: Trial, *, curves: Curves
) -> Findings:
    encoder, asked = workspace.tuned_encoder, trial.questions
    if encoder is not None and asked.modality is Modality.TEXT and len(asked):
        # LoRA changes the query encoder and not the projector, so these queries are embedded again.
        maps = replace(maps, tuned=encoder.encode(asked.texts, Modality.TEXT))
    # Other kinds of projectors are shown beside the chosen ones, so the choice can be checked.
    cells = {
        f"{direction}:{projector.kind}": _cell(trial, projector)
        for direction in Direction
        for projector in _further(models, workspace.artefacts, direction)
    }
    judged = judge(
        trial, maps, choose_curves(store, models, workspace, curves, trial, forward=maps.forward)
    )
    seed = store.config.plan.seed
    return Findings(models.stored, trial, maps, judged, seed, cells)


def _cell(trial: Trial, projector: Projector) -> QueryScores:
    """Return the scores of one projector, used without fusion."""
    if projector.direction is Direction.BRIDGE:
        bridged = projector.apply_to_queries(trial.queries_new, trial.questions.wording)
        space = SearchSpace(bridged, trial.old, trial.old_distance)
    else:
        projected = projector.apply(trial.old, trial.side)
        space = SearchSpace(trial.queries_new, projected, trial.new_distance)
    return evaluate(space, trial.relevance)


def _against(others: Sequence[Findings], advice: Recommendation) -> list[str]:
    """Return warnings for kinds of queries that the recommended move serves worse than keep."""
    found = []
    for other in others:
        value, keep = _same_move(other, advice), other.keep.means[METRIC]
        if value is not None and value < keep:
            found.append(
                f"{other.direction} queries get worse with the recommended {advice.strategy}: "
                f"{METRIC} {value:.3f} against {keep:.3f} of keep"
            )
    return found


def _same_move(findings: Findings, advice: Recommendation) -> float | None:
    """Return the recommended move's value on other queries, at the nearest measured fraction."""
    # Keep and full are cells under their plain names, a bridge under "bridge:KIND".
    if advice.strategy in findings.judged.cells:
        return findings.judged.cells[advice.strategy].means[METRIC]
    for curve in findings.judged.deployable:
        if curve.serving == advice.serving and advice.ordering in (None, curve.ordering):
            distance = [abs(fraction - advice.fraction) for fraction in curve.fractions]
            return curve.values(METRIC)[distance.index(min(distance))]
    names = [name for name in findings.judged.cells if name.startswith(f"{advice.strategy}:")]
    return findings.judged.cells[names[0]].means[METRIC] if names else None


def _maps(models: Models, artefacts: Artefacts) -> Maps:
    bridge, forward = (_projector(models, artefacts, direction) for direction in Direction)
    # Calibration and benefit need both directions.
    if bridge is None or forward is None:
        return Maps(bridge, forward, centring=_centring(models, artefacts, forward))
    calibration = artefacts.load_calibration()
    # Weights fitted with other projectors would calibrate scores that no longer occur.
    if calibration is not None and calibration.projectors != (bridge.digest, forward.digest):
        calibration = None
    benefit = None if calibration is None else artefacts.load_benefit(calibration)
    centring = _centring(models, artefacts, forward)
    return Maps(bridge, forward, calibration, benefit, centring=centring)


def _centring(models: Models, artefacts: Artefacts, forward: Projector | None) -> Centring | None:
    if forward is None or not models.config.serving.centre_queries:
        return None
    return artefacts.load_centring(forward.digest)


def _projector(models: Models, artefacts: Artefacts, direction: Direction) -> Projector | None:
    """Load a projector; None if it is missing. A damaged or foreign one is an error."""
    folder = artefacts.projector_folder(direction)
    return _loaded(models, folder) if folder.exists() else None


def _further(models: Models, artefacts: Artefacts, direction: Direction) -> list[Projector]:
    """Load the best projector of every kind that was not chosen."""
    folders = artefacts.further_folder(direction).glob("*")
    return [_loaded(models, folder) for folder in sorted(folders)]


def _loaded(models: Models, folder: Path) -> Projector:
    projector = Projector.load(folder)
    if projector.manifest.new_model != models.new.fingerprint:
        raise ArtefactError(
            f"the projector in {folder} was made for another new model",
            "train it again with `xbtmigrate train-projector`",
        )
    return projector
