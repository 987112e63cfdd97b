"""Command line: `finalize`, drop the old side for good."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption


def finalize(
    config: ConfigOption = CONFIG,
    confirm: Annotated[
        str | None, typer.Option(help="The collection's name, typed: delete the old side.")
    ] = None,
    no_snapshot: Annotated[
        bool, typer.Option("--no-snapshot", help="Do not let the server store a snapshot first.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Drop the old vectors for good, and take the tool's marks from the points.

    At a terminal it asks for the collection's name; a script gives it with --confirm.
    """
    content = _run(config, confirm, snapshot=not no_snapshot)
    asks = confirm is None and not json and sys.stdin.isatty()
    if asks:
        _show(content)
        typed = typer.prompt("This cannot be undone. Type the collection's name", err=True)
        content = _run(config, typed, snapshot=not no_snapshot)
    if json:
        render.document(content)
    else:
        _show(content)


def _run(config: Path, confirm: str | None, *, snapshot: bool) -> dict[str, Any]:
    from xbtmigrate.config import load_config
    from xbtmigrate.workflows.finalize import finalize as run

    with render.ProgressBars() as bars:
        return run(load_config(config), confirm=confirm, snapshot=snapshot, report=bars)


def _show(content: dict[str, Any]) -> None:
    names = ("status", "phase", "deletes", "snapshot")
    render.facts(f"End of {content['collection']}", [(name, content[name]) for name in names])
    if not content["snapshots_possible"]:
        render.say("The embedded mode has no snapshots: copy its folder first.")
    render.say(f"Next: {content['next']}")
