"""Command line: `resume`, let a paused run go on."""

from __future__ import annotations

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption


def resume(config: ConfigOption = CONFIG, json: JsonOption = False) -> None:
    """Let a paused run go on; where it was killed meanwhile, the next run is not paused."""
    from xbtmigrate.config import load_config
    from xbtmigrate.workflows.backfill.control import resume as resume_run

    content = resume_run(load_config(config))
    if json:
        render.document(content)
        return
    if content["running"]:
        render.say(f"The run of {content['migration']} goes on.")
    else:
        render.say("No run is going; the pause is taken back, so the next one starts at once.")
    render.say(f"Next: {content['next']}")
