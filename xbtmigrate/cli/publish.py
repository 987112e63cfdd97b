"""Parse `publish`: store in Qdrant what an application needs to answer queries."""

from __future__ import annotations

from typing import Annotated

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption


def publish(
    config: ConfigOption = CONFIG,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this only says what.")] = False,
    json: JsonOption = False,
) -> None:
    """Store the artefacts of serving beside the journal, for applications on other machines.

    A backfill does so by itself; this is for a bridge, which needs no backfill.
    """
    from xbtmigrate.config import load_config
    from xbtmigrate.workflows.serve.publish import run

    result = run(load_config(config), yes=yes)
    if json:
        render.document(result.document())
        return
    size = sum(result.files.values())
    render.facts("Artefacts of serving", [(name, f"{n:,} B") for name, n in result.files.items()])
    if result.published is None:
        render.say(f"Would store {size:,} bytes in Qdrant; do it with --yes.")
    else:
        render.say(f"Stored {size:,} bytes in Qdrant, digest {result.published.digest[:12]}.")
