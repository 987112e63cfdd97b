"""Workflows: evaluate. Every cell and the backfilling curve, by kind of query. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from xbtmigrate.config import Config
from xbtmigrate.errors import ArtefactError
from xbtmigrate.evaluation.gates import Gate
from xbtmigrate.evaluation.recommendation import Costs, Recommendation
from xbtmigrate.projectors import Projector
from xbtmigrate.types import Direction, Modality, Strategy
from xbtmigrate.workflows.collecting import Wanted, pose
from xbtmigrate.workflows.encoding import Report
from xbtmigrate.workflows.findings import METRIC, Findings
from xbtmigrate.workflows.measuring import Maps, Trial, judge
from xbtmigrate.workflows.reporting import check_page, write_page
from xbtmigrate.workflows.wiring import Migration, open_migration


def measure(
    config: Config,
    wanted: Wanted,
    *,
    gates: Sequence[Gate] = (),
    page: Path | None = None,
    report: Report,
) -> dict[str, Any]:
    """Evaluate on judged queries, or on made ones where there are none.

    Args:
        config: The settings.
        wanted: What to evaluate on.
        gates: Conditions on the recommended move; what they say is part of the result.
        page: Also write the report here.
        report: Called with progress.

    Returns:
        The stable JSON form.

    Raises:
        ConfigError: The query file is not usable, or the page cannot be written.
        CollectionError: None of its relevant points is in the collection.
        XbtMigrateError: A part failed.
    """
    if page is not None:
        check_page(page)
    with open_migration(config) as migration:
        maps = _maps(migration)
        trials, warnings = pose(migration, wanted, report)
        report("judging", 0, 0)
        findings = [_findings(migration, maps, trial) for trial in trials]
        if maps.bridge is None and maps.forward is None:
            warnings.append("no projector was trained yet: run `xbtmigrate train-projector`")
        content = _document(findings, gates, config.plan.target, warnings)
        if page is not None:
            planned = migration.artefacts.plan_file.exists()
            costs = migration.artefacts.load_plan().costs if planned else []
            write_page(page, migration, content, costs)
    return content


def _document(
    findings: Sequence[Findings], gates: Sequence[Gate], target: float, warnings: Sequence[str]
) -> dict[str, Any]:
    first, *others = findings
    advice = first.advise(target, Costs())
    return {
        "metric": METRIC,
        "seed": first.seed,
        **first.document(advice),
        "directions": [each.figures() for each in others],
        "gates": [first.verdict(gate, advice) for gate in gates],
        "warnings": [*warnings, *_against(others, advice)],
    }


def _findings(migration: Migration, maps: Maps, trial: Trial) -> Findings:
    seed = migration.config.plan.seed
    encoder, asked = migration.tuned_encoder, trial.questions
    if encoder is not None and asked.modality is Modality.TEXT and len(asked):
        maps = replace(maps, tuned=encoder.encode(asked.texts, Modality.TEXT))
    return Findings(migration.stored, trial, maps, judge(trial, maps, seed), seed)


def _against(others: Sequence[Findings], advice: Recommendation) -> list[str]:
    """Warn of kinds of queries that the recommended move would serve worse than keep."""
    found = []
    for other in others:
        value, keep = _same_move(other, advice), other.keep.means[METRIC]
        if value is not None and value < keep:
            found.append(
                f"{other.direction} queries lose by the recommended {advice.strategy}: "
                f"{METRIC} {value:.3f} against {keep:.3f} of keep"
            )
    return found


def _same_move(findings: Findings, advice: Recommendation) -> float | None:
    """What the recommended move reaches on other queries, at the nearest measured fraction."""
    if advice.strategy in (Strategy.KEEP, Strategy.FULL):
        return findings.judged.cells[advice.strategy].means[METRIC]
    for curve in findings.judged.deployable:
        if curve.serving == advice.serving and advice.ordering in (None, curve.ordering):
            distance = [abs(fraction - advice.fraction) for fraction in curve.fractions]
            return curve.values(METRIC)[distance.index(min(distance))]
    names = [name for name in findings.judged.cells if name.startswith(f"{advice.strategy}:")]
    return findings.judged.cells[names[0]].means[METRIC] if names else None


def _maps(migration: Migration) -> Maps:
    bridge, forward = (_projector(migration, direction) for direction in Direction)
    if bridge is None or forward is None:
        return Maps(bridge, forward)
    arrangement = migration.artefacts.load_arrangement()
    if arrangement is not None and arrangement.projectors != (bridge.digest, forward.digest):
        arrangement = None
    return Maps(bridge, forward, arrangement)


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
