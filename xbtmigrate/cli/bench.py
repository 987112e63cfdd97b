"""Parse `bench`: measure each stage on the user's server."""

from __future__ import annotations

from typing import Annotated

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption
from xbtmigrate.cli.process import leave_cores_to_the_loop
from xbtmigrate.cli.text import duration


def bench(
    config: ConfigOption = CONFIG,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes/--dry-run",
            help="Also measure writes, in collections that are created for it and deleted again; "
            "--dry-run, the default, reads only.",
        ),
    ] = False,
    sample: Annotated[
        int, typer.Option(min=256, max=10_000_000, help="Points to measure on, at most.")
    ] = 20_000,
    json: JsonOption = False,
) -> None:
    """Measure how fast reading, projecting, encoding and writing are, and predict each strategy.

    Without --yes it reads only, and predicts only what needs no write.
    """
    # The same limit as in `backfill`, or the rates would not be those of a backfill.
    leave_cores_to_the_loop()
    from xbtmigrate.config import load_config

    settings = load_config(config)
    from xbtmigrate.workflows.plan.bench import bench as measure

    with render.progress() as bars:
        content = measure(settings, write=yes, sample=sample, report=bars)
    if json:
        render.document(content)
        return
    render.facts(
        f"Points per second, measured on {content['sample']:,} of {content['points']:,} points",
        content["points_per_second"].items(),
    )
    render.table(
        f"Predicted time, layout {content['layout']}",
        ["strategy", "encoded", "time"],
        (
            [
                row["strategy"],
                f"{row['fraction']:.0%}",
                None if row["seconds"] is None else duration(row["seconds"]),
            ]
            for row in content["predicted_seconds"]
        ),
    )
    if not yes:
        render.say("Nothing was written. To measure writes too: xbtmigrate bench --yes")
