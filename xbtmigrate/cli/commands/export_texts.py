"""Parse `export-texts`: write down what has to be embedded, for a model that runs elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption


def export_texts(
    config: ConfigOption = CONFIG,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the files.")] = Path(
        "to-embed"
    ),
    pairs: Annotated[
        int,
        typer.Option(min=0, help="Points for pairs, as train-projector is to be given; 0 for all."),
    ] = 10_000,
    everything: Annotated[
        bool, typer.Option("--all", help="Also write every point, in the order of the backfill.")
    ] = False,
    missing: Annotated[
        Literal["old", "new"] | None,
        typer.Option(
            metavar="old|new",
            help="Write only what the files of this precomputed model lack, in one file.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace earlier files.")] = False,
    json: JsonOption = False,
) -> None:
    """Write what plan, train-projector and backfill will embed, as Parquet files.

    Embed the column `key` elsewhere, and name files of `key` and `vector` as a precomputed model.
    """
    from xbtmigrate.config import load_config

    settings = load_config(config)
    from xbtmigrate.workflows.plan.export_texts import ExportOptions, export_texts

    options = ExportOptions(out, pairs or None, everything=everything, missing=missing, force=force)
    with render.progress() as bars:
        done = export_texts(settings, options, report=bars)
    if json:
        render.document(done)
        return
    rows = [
        [name, f"{each['files']:,}", f"{each['rows']:,}"] for name, each in done["parts"].items()
    ]
    render.table(f"To embed, in {done['folder']}", ["part", "files", "rows"], rows)
    render.say("Embed the column key; where id is empty, as a query.")
