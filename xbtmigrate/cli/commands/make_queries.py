"""Parse `make-queries`: write queries made from the collection's titles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption


def make_queries(
    config: ConfigOption = CONFIG,
    field: Annotated[
        str | None,
        typer.Option(help="Payload field of the titles; payload.query, or one called title."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Queries to write, at most.")] = 300,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="File to write, beside the configuration.")
    ] = Path("queries-made.jsonl"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    json: JsonOption = False,
) -> None:
    """Write titles of the collection as queries for their points, marked as made.

    They measure, but recommend nothing, until somebody rewrites them.
    """
    from xbtmigrate.config import load_config

    settings = load_config(config)
    from xbtmigrate.workflows.plan.make_queries import make_queries as make

    with render.progress() as bars:
        done = make(settings, name=field, count=count, out=out, force=force, report=bars)
    if json:
        render.document(done)
        return
    render.say(
        f"Wrote {done['queries']:,} queries for {done['answers']:,} points, from the field "
        f"'{done['field']}', to {done['file']}."
    )
    render.next_step(done)
