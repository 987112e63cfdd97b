"""Parse `plan`: measure every strategy and freeze the choice. Reads only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption
from xbtmigrate.cli.text import duration, size

if TYPE_CHECKING:
    from xbtmigrate.migration.plan import Plan


def plan(
    config: ConfigOption = CONFIG,
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write the frozen plan to this file.")
    ] = None,
    allow_model_mismatch: Annotated[
        bool,
        typer.Option(
            "--allow-model-mismatch",
            help="Go on although the declared old model did not make the stored vectors.",
        ),
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Also write a self-contained HTML page here.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure whether and how to move to the new model. Reads only.

    Shows the facts of the collection, what every strategy would cost, and what each would bring on
    a held-out sample, keeping the old model always among them. The plan is frozen under
    .xbtmigrate/ beside the configuration; later commands run exactly that plan.
    """
    from xbtmigrate.config import load_config

    settings = load_config(config)
    from xbtmigrate.workflows.plan.plan import make_plan
    from xbtmigrate.workflows.workspace import artefacts_of

    with render.progress() as bars:
        made = make_plan(
            settings,
            out=out,
            allow_model_mismatch=allow_model_mismatch,
            page=report,
            report=bars,
        )
    # Without judged queries the figures are provisional, and the plan has left a file to fill in.
    template = artefacts_of(settings).template_file if made.measurement.provisional else None
    # Beside the plan and not in it: these are neither frozen nor part of its digest.
    beside = {
        "readers": _readers(made),
        "queries_template": None if template is None else str(template),
        "next": _next(made, template),
    }
    if json:
        render.document(made.model_dump(mode="json") | beside)
        return
    render.say(beside["readers"] or "No reader has to change.")
    _show(made)
    render.say(f"Next: {beside['next']}")


def _readers(plan: Plan) -> str | None:
    """Return what each reader sends after the cutover; None where nothing is cut over."""
    from xbtmigrate.migration.strategies import STRATEGIES
    from xbtmigrate.workflows.cutover.route import describe_reader_change

    # `keep` and `bridge` write nothing, so queries stay in the old space.
    if not STRATEGIES[plan.strategy].writes:
        return None
    # In place nothing is moved, so an unchanged reader stays on the old vectors.
    return describe_reader_change(
        plan, plan.collection.alias if plan.target.layout == "shadow" else None
    )


def _show(plan: Plan) -> None:
    from xbtmigrate.workflows.tally import describe_without_vector

    found, target, coverage, match = plan.collection, plan.target, plan.coverage, plan.model_match
    cosines = ", ".join(f"{name} {value:.4f}" for name, value in match.median_cosine.items())
    render.facts(
        f"Plan {plan.digest[:12]} for {found.name}",
        [
            ("server", found.server),
            ("points", coverage.points),
            ("old vector", f"'{found.vector}', {found.size}-d, {found.distance}"),
            ("new vector", f"'{target.vector}', {target.size}-d, {target.distance}"),
            ("layout", f"{target.layout}: {target.reason}"),
            ("with text / image", f"{coverage.with_text:,} / {coverage.with_image:,}"),
            ("without source", coverage.missing_source),
            ("unusable old vector", coverage.unusable_old),
            ("sample not embedded", f"{coverage.sample_unreadable:,} of {coverage.sampled:,}"),
            ("get no new vector", describe_without_vector(plan.without_vector)),
            ("old model check", f"median cosine {cosines} on {match.sample} points"),
            ("encoding rate", f"{plan.throughput.encode:,.0f} items/s on this machine"),
        ],
    )
    _show_costs(plan)
    _show_measurement(plan)
    for warning in plan.warnings:
        render.say(f"Warning: {warning}")
    for finding in plan.findings:
        render.say(f"Needed: {finding.message}. Way out: {finding.way_out}.")
    advised = plan.recommendation
    render.say(f"Recommended: {advised.strategy or 'nothing'}. {advised.reason}.")
    render.say(f"This plan: {plan.strategy}, fraction {plan.fraction:g}.")


def _show_costs(plan: Plan) -> None:
    render.table(
        "What each strategy costs",
        ["strategy", "encoded", "vectors written", "disk", "RAM", "time", "money"],
        (
            [
                cost.strategy,
                cost.encodes,
                cost.writes,
                size(cost.disk_bytes),
                size(cost.ram_bytes),
                duration(cost.seconds),
                None if cost.money is None else f"{cost.money:.2f}",
            ]
            for cost in plan.costs
        ),
    )


def _show_measurement(plan: Plan) -> None:
    measured = plan.measurement
    provisional = ", provisional" if measured.provisional else ""
    names = [f"sample_{name}" for name in ("recall@1", "recall@10", "mrr@10", "ndcg@10")]
    render.table(
        f"What each brings in a sample ({measured.query_count} queries, "
        f"{measured.gallery_count} points{provisional})",
        ["query/gallery", *(name.replace("_", " ") for name in names), "against keep"],
        (
            [
                row.name,
                *render.figures(row.metrics, names, by_definition=row.by_definition),
                None if row.name == "keep" or row.by_definition else row.against_keep,
            ]
            for row in measured.systems
        ),
    )
    render.say(f"Queries: {measured.basis}.")


def _next(plan: Plan, template: Path | None) -> str:
    from xbtmigrate.migration.phases import Phase
    from xbtmigrate.workflows.next_step import find_next_step

    if template is not None:
        return (
            f"write what your users would type for the points in {template}, save it, name it in "
            "plan.queries and plan again; docs/judging.md has more ways"
            + ("" if plan.strategy == "keep" else f"; or {find_next_step(Phase.PLANNED, plan)}")
        )
    return find_next_step(Phase.PLANNED, plan)
