"""Command line: `pause`, let the run of another shell wait."""

from __future__ import annotations

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption


def pause(config: ConfigOption = CONFIG, json: JsonOption = False) -> None:
    """Let the run that is going wait, until `resume`; returns when nothing of it is under way."""
    from xbtmigrate.config import load_config
    from xbtmigrate.workflows.backfill.control import pause as pause_run

    content = pause_run(load_config(config))
    if json:
        render.document(content)
        return
    render.say(f"The run of {content['migration']} is paused. It keeps its lease and its place.")
    render.say(f"Next: {content['next']}")
