"""Parse `bench`: measure each stage on the user's server."""

from __future__ import annotations

from typing import Annotated

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption
from xbtmigrate.cli.process import leave_cores_to_the_loop


def bench(
    config: ConfigOption = CONFIG,
    write: Annotated[
        bool,
        typer.Option(
            "--write",
            help="Also measure writes, in collections that are created for it and deleted again.",
        ),
    ] = False,
    sample: Annotated[
        int, typer.Option(min=256, max=10_000_000, help="Points to measure on, at most.")
    ] = 20_000,
    json: JsonOption = False,
) -> None:
    """Measure how fast reading, projecting, encoding and writing are, and predict each strategy.

    Without --write it reads only, and predicts only what needs no write.
    """
    # The same limit as in `backfill`, or the rates would not be those of a backfill.
    leave_cores_to_the_loop()
    from xbtmigrate.config import load_config
    from xbtmigrate.workflows.plan.bench import bench as measure

    with render.ProgressBars() as bars:
        content = measure(load_config(config), write=write, sample=sample, report=bars).document()
    if json:
        render.document(content)
        return
    rates = content["points_per_second"]
    render.facts(
        f"Points per second, measured on {content['sample']:,} of {content['points']:,} points",
        [(name, None if rate is None else round(rate)) for name, rate in rates.items()],
    )
    render.table(
        f"Predicted time, layout {content['layout']}",
        ["strategy", "encoded", "time"],
        (
            [
                row["strategy"],
                f"{row['fraction']:.0%}",
                None if row["seconds"] is None else render.duration(row["seconds"]),
            ]
            for row in content["predicted_seconds"]
        ),
    )
    if not write:
        render.say("Nothing was written. To measure writes too: xbtmigrate bench --write")
