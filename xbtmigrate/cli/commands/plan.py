"""Parse `plan`: measure every strategy and freeze the choice. Reads only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xbtmigrate.cli import figures, render
from xbtmigrate.cli.options import CONFIG, AllOption, ConfigOption, JsonOption, MustLeaveOption
from xbtmigrate.cli.text import duration, size

if TYPE_CHECKING:
    from xbtmigrate.documents.next_step import NextDocument
    from xbtmigrate.migration.plan import Compatibility, ModelMatch, Plan


def plan(
    config: ConfigOption = CONFIG,
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write the frozen plan to this file.")
    ] = None,
    allow_model_mismatch: Annotated[
        bool,
        typer.Option(
            "--allow-model-mismatch",
            help="Continue even if the declared old model did not make the stored vectors.",
        ),
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Also write a self-contained HTML page here.")
    ] = None,
    every: AllOption = False,
    must_leave: MustLeaveOption = None,
    json: JsonOption = False,
) -> None:
    """Measure whether and how to move to the new model. Reads only.

    Shows the collection, the cost of every strategy, and its quality on a held-out sample, always
    beside that of keeping the old model. The plan is frozen under .xbtmigrate/ beside the
    configuration; later commands run exactly that plan.
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
            must_leave=must_leave or "",
            report=bars,
        )
    template = artefacts_of(settings).template_file if made.measurement.provisional else None
    readers, following = _readers(made), _next(made, template)
    if json:
        render.document(made.model_dump(mode="json") | _beside(readers, template, following))
        return
    render.say(readers or "No reader has to change.")
    _show(made, every=every)
    render.next_step(following)


def _beside(
    readers: str | None, template: Path | None, following: NextDocument
) -> dict[str, object]:
    """Return what is printed beside the plan: neither frozen nor part of its digest."""
    file = None if template is None else str(template)
    return {"readers": readers, "queries_template": file, **following}


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


def _show(plan: Plan, *, every: bool) -> None:
    from xbtmigrate.workflows.tally import describe_without_vector

    found, target, coverage, match = plan.collection, plan.target, plan.coverage, plan.model_match
    unreadable = f"{coverage.sample_unreadable:,} of {coverage.sampled:,}"
    lacking = any(plan.without_vector.values())
    render.facts(
        f"Plan {plan.digest[:12]} for {found.name}",
        [
            ("server", found.server),
            ("points", coverage.points),
            ("old vector", f"'{found.vector}', {found.size}-d, {found.distance}"),
            ("new vector", f"'{target.vector}', {target.size}-d, {target.distance}"),
            ("layout", f"{target.layout}: {target.reason}"),
            ("with text / image", f"{coverage.with_text:,} / {coverage.with_image:,}"),
            # Faults are shown only if there are any.
            ("without source", coverage.missing_source or None),
            ("unusable old vector", coverage.unusable_old or None),
            ("sample not embedded", unreadable if coverage.sample_unreadable else None),
            (
                "get no new vector",
                describe_without_vector(plan.without_vector) if lacking else None,
            ),
            ("old model check", "none: the old model is gone" if match is None else _check(match)),
            ("new model", _shared(plan.compatibility)),
            ("encoding rate", f"{plan.throughput.encode:,.0f} items/s on this machine"),
        ],
    )
    _show_costs(plan)
    _show_measurement(plan, every=every)
    for warning in plan.warnings:
        render.say(f"Warning: {warning}")
    for finding in plan.findings:
        label = "Needed" if finding.blocks else "Note"
        render.say(f"{label}: {finding.message}. Way out: {finding.way_out}.")
    advised = plan.recommendation
    render.say(f"Recommended: {advised.strategy or 'nothing'}. {advised.reason}.")
    render.say("")
    words = figures.in_words(_rows(plan), advised.strategy, advised.fraction, coverage.points)
    render.say(f"{words} {_chosen(plan)}")


def _check(match: ModelMatch) -> str:
    cosines = ", ".join(f"{name} {value:.4f}" for name, value in match.median_cosine.items())
    return f"median cosine {cosines} on {match.sample} points"


def _shared(found: Compatibility) -> str | None:
    """Return what both models' vectors have in common; None for nothing."""
    if found.relation == "different":
        return None
    relation = {
        "same": "makes the stored vectors",
        "longer": f"makes the stored vectors, and more numbers behind the first {found.numbers}",
        "cut": f"makes the first {found.numbers} numbers of the stored vectors",
        "compatible": "asks in the stored vectors as well as in its own space",
    }[found.relation]
    return (
        f"{relation} (median cosine {found.median_cosine:.4f}; recall@10 old/old "
        f"{found.old_old:.3f}, new/old {found.new_old:.3f}, new/new {found.new_new:.3f})"
    )


def _chosen(plan: Plan) -> str:
    """Return what the plan does, and how to let it follow the recommendation where it does not."""
    chosen = f"This plan: {plan.strategy}, fraction {plan.fraction:g}."
    advised = plan.recommendation.strategy
    if advised is None or advised == plan.strategy:
        return chosen
    return f'{chosen} To follow the recommendation, set plan.strategy = "auto" and plan again.'


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
            if cost.writes
        ),
    )
    render.say("The others write nothing: the collection stays as it is.")
    render.say("")


def _show_measurement(plan: Plan, *, every: bool) -> None:
    measured = plan.measurement
    provisional = ", provisional" if measured.provisional else ""
    title = f"What each brings in a sample ({measured.query_count} queries, "
    title += f"{measured.gallery_count} points{provisional})"
    figures.show_systems(title, _rows(plan), every=every)
    render.say(f"Queries: {measured.basis}.")


def _rows(plan: Plan) -> list[figures.Row]:
    """Return the measured systems; the title names the sample, so the figures need no prefix."""
    return [
        figures.Row(
            row.name,
            {name: row.metrics.get(f"sample_{name}", 0.0) for name in figures.METRICS},
            row.by_definition,
            row.against_keep,
            estimated=row.estimated,
        )
        for row in plan.measurement.systems
    ]


def _next(plan: Plan, template: Path | None) -> NextDocument:
    from xbtmigrate.migration.phases import Phase
    from xbtmigrate.workflows.next_step import find_next_step

    following = find_next_step(Phase.PLANNED, plan)
    # Without judged queries the figures are provisional, and the plan has left a file to fill in.
    if template is not None:
        following["next_note"] = (
            "These figures are provisional. Write what your users would type for the points in "
            f"{template}, save it, name it in plan.queries and plan again; docs/judging.md has "
            "more ways."
        )
    return following
