"""Parse `publish`: store in Qdrant what an application needs to answer queries."""

from __future__ import annotations

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption, YesOption


def publish(
    config: ConfigOption = CONFIG,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Store the artefacts of serving beside the journal, for applications on other machines.

    A backfill does so by itself; this is for a bridge, which needs no backfill.
    """
    from xbtmigrate.config import load_config

    settings = load_config(config)
    from xbtmigrate.workflows.serve.publish import run

    result = run(settings, yes=yes)
    if json:
        render.document(result.document())
        return
    size = sum(result.files.values())
    render.facts("Artefacts of serving", [(name, f"{n:,} B") for name, n in result.files.items()])
    if result.published is None:
        render.say(f"Would store {size:,} bytes in Qdrant; do it with --yes.")
    else:
        render.say(f"Stored {size:,} bytes in Qdrant, digest {result.published.digest[:12]}.")
