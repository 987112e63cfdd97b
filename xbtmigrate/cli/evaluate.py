"""Parse `evaluate`: measure every cell and the backfilling curves, by kind of query."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption
from xbtmigrate.cli.process import end

if TYPE_CHECKING:
    from xbtmigrate.documents.evaluate import EvaluateDocument, FiguresDocument, SystemDocument

SHOWN = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)

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
    int, typer.Option(min=100, help="Largest gallery; a bigger collection is sampled.")
]
GateOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GATE",
        help='Exit 3 unless the recommended move meets this, for example "recall@10>=keep" or '
        '"ndcg@10>=0.95*full"; may be given several times.',
    ),
]
ReportOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="Also write a self-contained HTML page here.")
]
OrdersOption: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Orders to draw curves of, separated by commas; oracle is a bound."),
]
ServingsOption: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Servings: merge, slerp, single, calibrated, and those of plugins."),
]
DemandOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="Log of the traffic, for the orders that use it."),
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
    json: JsonOption = False,
) -> None:
    """Measure keep, bridge, forward and full, and the mixed gallery at every fraction. Reads only.

    Vectors that the new model has already made are taken from the collection; the rest is encoded
    and kept, so that a backfill does not encode it again.
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
            report=bars,
        )
    if json:
        render.document(content)
    else:
        _show(content)
    end(passed=all(verdict["met"] for verdict in content["gates"]))


def _show(content: EvaluateDocument) -> None:
    # The document's own figures are those of the first kind of queries; the others follow.
    for block in (content, *content["directions"]):
        _show_figures(block)
    for warning in content["warnings"]:
        render.say(f"Warning: {warning}")
    render.say(
        f"Recommended: {content['recommendation']['strategy'] or 'nothing'}. "
        f"{content['recommendation']['reason']}."
    )
    # Made queries never lead to a recommendation, so the way to a real one is shown.
    if content["provisional"]:
        render.say("Next: write judged queries (docs/judging.md), then evaluate with --queries.")
    for verdict in content["gates"]:
        render.say(
            f"Gate {verdict['gate']} on {verdict['strategy']}: "
            f"{'met' if verdict['met'] else 'not met'}, "
            f"{verdict['value']:.3f} against {verdict['level']:.3f}."
        )


def _show_figures(content: FiguresDocument) -> None:
    names = ["recall@1", "recall@10", "mrr@10", "ndcg@10"]
    render.table(
        f"{content['direction']}: {content['query_count']:,} queries, "
        f"{content['gallery_count']:,} points{', provisional' if content['provisional'] else ''}",
        ["query/gallery", *names, "against keep", "gap closed"],
        (_row(system, names) for system in content["systems"]),
    )
    render.table(
        "recall@10 of the mixed gallery by re-encoded fraction",
        ["order, serving", "AUC", "keep at", *(f"{fraction:g}" for fraction in SHOWN)],
        (
            [
                f"{curve['ordering']}, {curve['serving']}",
                curve["auc"],
                _share(curve["fraction_to_keep"]),
                *(curve["recall@10"][curve["fractions"].index(fraction)] for fraction in SHOWN),
            ]
            # `single` on top: what applications get that only switch the vector.
            for curve in sorted(content["curves"], key=lambda each: each["serving"] != "single")
        ),
    )


def _share(fraction: float | None) -> str:
    return "never" if fraction is None else f"{fraction:.0%}"


def _row(system: SystemDocument, names: list[str]) -> list[object]:
    """Figures of one system, how it compares with keep, and how much of the gap it closes."""
    given, gap = system["by_definition"], system["gap_closed"]["recall@10"]
    return [
        system["name"],
        *render.figures(system, names, by_definition=given),
        # Keep is not compared with itself, nor is a figure that is 1 by definition.
        None if system["name"] == "keep" or given else system["against_keep"]["recall@10"],
        None if gap is None else f"{gap:.0%}",
    ]


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]
