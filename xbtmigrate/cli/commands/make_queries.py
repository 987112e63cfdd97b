"""Parse `make-queries`: write queries made from the collection's titles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption
from xbtmigrate.errors import ConfigError


def make_queries(
    config: ConfigOption = CONFIG,
    field: Annotated[
        str | None,
        typer.Option(help="Payload field of the titles; payload.query, or one called title."),
    ] = None,
    judged: Annotated[
        Path | None,
        typer.Option(help="Judged queries, BEIR or TREC, whose ids are in a payload field."),
    ] = None,
    id_field: Annotated[str | None, typer.Option(help="That payload field.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of the judged queries.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Queries to write, at most.")] = 300,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="File to write, beside the configuration.")
    ] = Path("queries-made.jsonl"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    json: JsonOption = False,
) -> None:
    """Write titles of the collection as queries for their points, marked as made.

    They measure, but recommend nothing, until somebody rewrites them. With --judged, translate
    judged queries from the ids of a payload field to those of points.
    """
    if (judged is None) != (id_field is None):
        raise ConfigError("--judged and --id-field need each other", "give both, or neither")
    from xbtmigrate.config import load_config

    settings = load_config(config)
    from xbtmigrate.evaluation.query_files import read_questions
    from xbtmigrate.workflows.plan.make_queries import QueriesFile, translate_queries
    from xbtmigrate.workflows.plan.make_queries import make_queries as make

    file = QueriesFile(out, force)
    with render.progress() as bars:
        if judged is not None and id_field is not None:
            asked = read_questions(judged, split)
            done = translate_queries(settings, asked, id_field, file, report=bars)
        else:
            done = make(settings, name=field, count=count, file=file, report=bars)
    if json:
        render.document(done)
        return
    render.say(
        f"Wrote {done['queries']:,} queries for {done['answers']:,} points, from the field "
        f"'{done['field']}', to {done['file']}."
    )
    if done["missing"]:
        render.note(f"{done['missing']:,} ids of the judged queries are those of no point.")
    render.next_step(done)
