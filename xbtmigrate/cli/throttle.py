"""Command line: `throttle`, change the limits of the run of another shell."""

from __future__ import annotations

from typing import Annotated

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption


def throttle(
    config: ConfigOption = CONFIG,
    max_slowdown: Annotated[
        str | None,
        typer.Option(help="Largest ratio of the queries' p95 to that before the run, or off."),
    ] = None,
    max_rate: Annotated[
        str | None, typer.Option(help="Most points written per second, or off.")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Take away both limits.")] = False,
    reset: Annotated[
        bool, typer.Option("--reset", help="Go back to the limits the run was started with.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Change the limits of the run that is going; they hold until they are changed again."""
    from xbtmigrate.config import load_config
    from xbtmigrate.workflows.backfill.control import throttle as throttle_run

    content = throttle_run(
        load_config(config), max_slowdown=max_slowdown, max_rate=max_rate, off=off, reset=reset
    )
    if json:
        render.document(content)
        return
    shown = [
        (name.replace("_", " "), content[name] or "off") for name in ("max_slowdown", "max_rate")
    ]
    render.facts(f"Limits of the run of {content['migration']}", shown)
