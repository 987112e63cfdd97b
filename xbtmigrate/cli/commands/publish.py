"""Parse `publish`: store in Qdrant what an application needs to answer queries."""

from __future__ import annotations

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption, YesOption


def publish(
    config: ConfigOption = CONFIG,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Store what serving needs beside the journal, for applications on other machines.

    A backfill does this itself; this command is for a bridge, which needs no backfill.
    """
    from xbtmigrate.config import load_config

    settings = load_config(config)
    from xbtmigrate.workflows.serve.publish import run

    content = run(settings, yes=yes)
    if json:
        render.document(content)
        return
    size, sizes = content["bytes"], content["files"].items()
    render.facts("Artefacts for serving", [(name, f"{count:,} B") for name, count in sizes])
    if content["digest"] is None:
        render.say(f"Would store {size:,} bytes in Qdrant.")
    else:
        render.say(f"Stored {size:,} bytes in Qdrant, digest {content['digest'][:12]}.")
    render.next_step(content)
