"""Parse `finalize`: delete the old vectors for good."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import (
    CONFIG,
    NOTICE,
    ConfigOption,
    JsonOption,
    NoticeOption,
    YesOption,
)

if TYPE_CHECKING:
    from xbtmigrate.config import Config
    from xbtmigrate.documents.cutover import FinalizeDocument


def finalize(
    config: ConfigOption = CONFIG,
    yes: YesOption = False,
    confirm: Annotated[
        # The former spelling of --yes; its value must be the collection's name.
        str | None, typer.Option(hidden=True)
    ] = None,
    no_snapshot: Annotated[
        bool, typer.Option("--no-snapshot", help="Do not store a snapshot on the server first.")
    ] = False,
    notice: NoticeOption = NOTICE,
    json: JsonOption = False,
) -> None:
    """Delete the old vectors for good, and remove the tool's marks from the points.

    At a terminal it asks for the collection's name, unless --yes is given.
    """
    from xbtmigrate.config import load_config

    settings = load_config(config)
    run = partial(_run, settings, snapshot=not no_snapshot, notice=notice)
    if yes:
        confirm = settings.qdrant.collection
    # Without --yes this only reads, so the user sees what would be deleted before typing the name.
    content = run(confirm)
    possible = no_snapshot or content["snapshots_possible"]
    # No prompt in a script or a pipe: it would wait for an answer that never comes.
    if confirm is None and possible and not json and sys.stdin.isatty():
        _show(content)
        # A name instead of y/n: it is not typed out of habit, nor for the wrong collection.
        typed = typer.prompt("This cannot be undone. Type the collection's name", err=True)
        content = run(typed)
    if json:
        render.document(content)
    else:
        _show(content)


def _run(
    settings: Config, confirm: str | None, *, snapshot: bool, notice: float
) -> FinalizeDocument:
    from xbtmigrate.workflows.cutover.finalize import finalize as run

    with render.progress() as bars:
        return run(settings, confirm=confirm, snapshot=snapshot, notice=notice, report=bars)


def _show(content: FinalizeDocument) -> None:
    title = f"End of {content['collection']}"
    render.facts(title, render.named(content, "status", "phase", "deletes"))
    if content["snapshot"] is not None:
        render.say(f"Snapshot: {content['snapshot_file']}")
        render.say(f"Restore it with: {content['restore']}")
    data = content["data"]
    place = f"'{data['collection']}'" + (f" (alias '{data['alias']}')" if data["alias"] else "")
    using = f'using="{data["vector"]}"' if data["vector"] else "no `using`"
    render.say(f"Afterwards the data is in {place}, {using}, model {data['model']}.")
    for change in content["configuration"]:
        render.say(f"In the configuration: {change}")
    if not content["snapshots_possible"] and content["status"] == "nothing was deleted":
        render.say("The embedded mode has no snapshots: copy its folder first.")
    render.next_step(content)
