"""Parse `evaluate`: measure every cell and the backfilling curves, by kind of query."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from xbtmigrate.cli import figures, render
from xbtmigrate.cli.options import CONFIG, AllOption, ConfigOption, JsonOption, MustLeaveOption
from xbtmigrate.cli.process import end

if TYPE_CHECKING:
    from xbtmigrate.documents.evaluate import EvaluateDocument

QueriesOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Parquet file with the columns text, image or both, and relevant (list of point "
        "ids). Without it, plan.queries; without that, queries are made from the points."
    ),
]
SplitOption: TypeAlias = Annotated[
    str | None, typer.Option(help="Use only the rows whose column 'split' has this value.")
]
MaxGalleryOption: TypeAlias = Annotated[
    int, typer.Option(min=100, help="Largest gallery; a larger collection is sampled.")
]
GateOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GATE",
        help='Exit 3 unless the recommended move meets this, for example "recall@10>=keep" or '
        '"ndcg@10>=0.95*full"; may be repeated.',
    ),
]
ReportOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="Also write a self-contained HTML page here.")
]
OrdersOption: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Orders to draw curves for, comma-separated; oracle is an upper bound."),
]
ServingsOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Servings: single, uncentred, merge, slerp, calibrated, calibrated_bridge, and those "
        "of plugins."
    ),
]
DemandOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="Traffic log, for the orders that use it."),
]


def evaluate(
    config: ConfigOption = CONFIG,
    queries: QueriesOption = None,
    split: SplitOption = None,
    max_gallery: MaxGalleryOption = 100_000,
    max_queries: Annotated[int, typer.Option(min=1, help="Most queries to use.")] = 10_000,
    gate: GateOption = None,
    report: ReportOption = None,
    orders: OrdersOption = None,
    servings: ServingsOption = None,
    demand: DemandOption = None,
    every: AllOption = False,
    must_leave: MustLeaveOption = None,
    json: JsonOption = False,
) -> None:
    """Measure keep, bridge, forward and full, and the mixed gallery at every fraction. Reads only.

    Vectors that the new model has already made are read from the collection; the rest are encoded
    and kept, so that a backfill does not encode them again.
    """
    from xbtmigrate.config import load_config

    settings = load_config(config)
    from xbtmigrate.evaluation.quality_gate import Gate
    from xbtmigrate.workflows.evaluate.collect import EvaluationOptions
    from xbtmigrate.workflows.evaluate.curves import Curves
    from xbtmigrate.workflows.evaluate.evaluate import measure

    # Parsed first: an evaluation may take long, and a mistyped gate should not end it.
    gates = [Gate.parse(text) for text in gate or []]
    wanted = EvaluationOptions(queries, split, max_gallery, max_queries)
    with render.progress() as bars:
        content = measure(
            settings,
            wanted,
            gates=gates,
            curves=Curves(_names(orders), _names(servings), demand),
            page=report,
            must_leave=must_leave or "",
            report=bars,
        )
    if json:
        render.document(content)
    else:
        _show(content, every=every)
    end(passed=all(verdict["met"] for verdict in content["gates"]))


def _show(content: EvaluateDocument, *, every: bool) -> None:
    # The document's own figures are those of the first kind of queries; the others follow.
    for block in (content, *content["directions"]):
        provisional = ", provisional" if block["provisional"] else ""
        title = f"{block['direction']}: {block['query_count']:,} queries, "
        title += f"{block['gallery_count']:,} points{provisional}"
        figures.show_systems(title, figures.evaluated(block), every=every)
        figures.show_curves(block["curves"], every=every)
    for warning in content["warnings"]:
        render.say(f"Warning: {warning}")
    advised = content["recommendation"]
    render.say(f"Recommended: {advised['strategy'] or 'nothing'}. {advised['reason']}.")
    for verdict in content["gates"]:
        render.say(
            f"Gate {verdict['gate']} on {verdict['strategy']}: "
            f"{'met' if verdict['met'] else 'not met'}, "
            f"{verdict['value']:.3f} against {verdict['level']:.3f}."
        )
    strategy, share = advised["strategy"], advised["fraction"]
    words = figures.in_words(figures.evaluated(content), strategy, share, content["gallery_count"])
    render.say("")
    render.say(words)
    render.next_step(content)


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]
