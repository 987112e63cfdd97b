"""Command line: `plan`, measure and decide; reads only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption

if TYPE_CHECKING:
    from xbtmigrate.plan import Plan


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
    from xbtmigrate.workflows.plan import make_plan
    from xbtmigrate.workflows.switching import readers_send

    with render.ProgressBars() as bars:
        made = make_plan(
            load_config(config),
            out=out,
            allow_model_mismatch=allow_model_mismatch,
            page=report,
            report=bars,
        )
    readers = None
    if made.strategy not in ("keep", "bridge"):
        alias = made.collection.alias if made.target.layout == "shadow" else None
        readers = readers_send(made, alias)
    if json:
        render.document({"readers": readers, **made.model_dump(mode="json")})
    else:
        render.say(readers or "No reader has to change.")
        _show(made)


def _show(plan: Plan) -> None:
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
            ("old model check", f"median cosine {cosines} on {match.sample} points"),
            ("encoding rate", f"{plan.throughput.encode:,.0f} items/s on this machine"),
        ],
    )
    render.table(
        "What each strategy costs",
        ["strategy", "encoded", "vectors written", "disk", "RAM", "time", "money"],
        (
            [
                cost.strategy,
                cost.encodes,
                cost.writes,
                render.size(cost.disk_bytes),
                render.size(cost.ram_bytes),
                render.duration(cost.seconds),
                None if cost.money is None else f"{cost.money:.2f}",
            ]
            for cost in plan.costs
        ),
    )
    measured = plan.measurement
    provisional = ", provisional" if measured.provisional else ""
    names = ["recall@1", "recall@10", "mrr@10", "ndcg@10"]
    render.table(
        f"What each brings ({measured.query_count} queries, {measured.gallery_count} points"
        f"{provisional})",
        ["query/gallery", *names],
        ([row.name, *(row.metrics[name] for name in names)] for row in measured.systems),
    )
    render.say(f"Queries: {measured.basis}.")
    for warning in plan.warnings:
        render.say(f"Warning: {warning}")
    render.say(f"Recommended: {plan.recommendation.strategy}. {plan.recommendation.reason}.")
    render.say(f"This plan: {plan.strategy}, fraction {plan.fraction:g}.")
    render.say(f"Next: {_next(plan)}")


def _next(plan: Plan) -> str:
    if plan.strategy == "keep":
        return "nothing; set plan.strategy in the configuration to do it all the same."
    return "xbtmigrate train-projector"
