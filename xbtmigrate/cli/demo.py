"""Parse `demo`: run the whole path on real data that comes with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import JsonOption


def demo(
    folder: Annotated[
        Path, typer.Option("--folder", help="Where to build it; must be new or empty.")
    ] = Path("xbtmigrate-demo"),
    json: JsonOption = False,
) -> None:
    """Run plan, train-projector, backfill and evaluate on a small collection, under a minute.

    Openclipart pictures with captions, embedded by two real CLIP models, in an embedded Qdrant.
    """
    from xbtmigrate.workflows.operate.demo import run_demo

    with render.progress() as bars:
        content = run_demo(folder, report=bars)
    if json:
        render.document(content)
        return
    names = ["recall@1", "recall@10", "mrr@10"]
    render.table(
        f"Text queries, {content['gallery_count']:,} pictures, {content['query_count']} queries",
        ["strategy", "serving", "re-encoded", *names],
        (
            [
                row["strategy"],
                row["serving"],
                f"{row['fraction']:.0%}",
                *render.figures(row, names),
            ]
            for row in content["rows"]
        ),
    )
    for line in content["advice"]:
        render.say(line)
