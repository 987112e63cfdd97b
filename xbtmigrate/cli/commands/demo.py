"""Parse `demo`: run the whole path on real data that comes with the package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import JsonOption

if TYPE_CHECKING:
    from xbtmigrate.documents.operate import DemoQuery

WIDTH = 36


def demo(
    folder: Annotated[
        Path, typer.Option("--folder", help="Folder to build it in; must be new or empty.")
    ] = Path("xbtmigrate-demo"),
    json: JsonOption = False,
) -> None:
    """Migrate a small collection, from plan to cutover, in less than a minute.

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
        ["strategy", "serving", "encoded", *names],
        (
            [
                row["strategy"],
                row["serving"],
                f"{row['fraction']:.0%}",
                *render.cells(row, *names),
            ]
            for row in content["rows"]
        ),
    )
    _show_hits(content["query"])
    for line in content["advice"]:
        render.say(line)


def _show_hits(query: DemoQuery) -> None:
    """Show what one query found before and after the cutover, side by side."""
    pairs = zip(query["before"], query["after"], strict=True)
    render.table(
        f'Query "{query["text"]}"',
        [_pair("before the migration", "after the cutover")],
        ([_pair(before, after)] for before, after in pairs),
    )


def _pair(left: str, right: str) -> str:
    """Put two captions into one cell: columns after a table's first are for numbers."""
    return f"{left[:WIDTH]:<{WIDTH}}  {right[:WIDTH]:<{WIDTH}}"
