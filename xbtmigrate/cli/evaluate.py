"""Command line: `evaluate`, every cell and the backfilling curve on judged queries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption

SHOWN = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


def evaluate(
    queries: Annotated[
        Path,
        typer.Option(help="Parquet file with the columns text and relevant (list of point ids)."),
    ],
    config: ConfigOption = CONFIG,
    split: Annotated[
        str | None, typer.Option(help="Use only the rows whose column 'split' has this value.")
    ] = None,
    max_gallery: Annotated[
        int, typer.Option(min=100, help="Largest gallery; a bigger collection is sampled.")
    ] = 100_000,
    max_queries: Annotated[int, typer.Option(min=1, help="Most queries to use.")] = 10_000,
    json: JsonOption = False,
) -> None:
    """Measure keep, bridge, forward and full, and the mixed gallery at every fraction. Reads only.

    Vectors that the new model has already made are taken from the collection; the rest is encoded
    and kept, so that a backfill does not encode it again.
    """
    from xbtmigrate.config import load_config
    from xbtmigrate.workflows.evaluate import measure

    with render.ProgressBars() as bars:
        content = measure(
            load_config(config),
            queries,
            split=split,
            max_gallery=max_gallery,
            max_queries=max_queries,
            report=bars,
        )
    if json:
        render.document(content)
        return
    names = ["recall@1", "recall@10", "mrr@10", "ndcg@10"]
    render.table(
        f"{content['query_count']:,} queries, {content['gallery_count']:,} points",
        ["query/gallery", *names, "compatible", "gap closed"],
        (
            [
                system["name"],
                *(system[name] for name in names),
                system["compatible"]["recall@10"],
                system["gap_closed"]["recall@10"],
            ]
            for system in content["systems"]
        ),
    )
    render.table(
        "recall@10 of the mixed gallery by re-encoded fraction",
        ["order, serving", "AUC", *(f"{fraction:g}" for fraction in SHOWN)],
        (
            [
                f"{curve['ordering']}, {curve['serving']}",
                curve["auc"],
                *(curve["recall@10"][curve["fractions"].index(fraction)] for fraction in SHOWN),
            ]
            for curve in content["curves"]
        ),
    )
    for warning in content["warnings"]:
        render.say(f"Warning: {warning}")
    render.say(
        f"Recommended: {content['recommendation']['strategy']}. "
        f"{content['recommendation']['reason']}."
    )
