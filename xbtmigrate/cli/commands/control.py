"""Parse `pause`, `resume` and `throttle`: control a backfill that runs in another shell."""

from __future__ import annotations

from typing import Annotated

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import (
    CONFIG,
    ConfigOption,
    JsonOption,
    RateOption,
    SlowdownOption,
)


def pause(config: ConfigOption = CONFIG, json: JsonOption = False) -> None:
    """Pause the running backfill until `resume`; returns when its last request has ended."""
    from xbtmigrate.config import load_config

    settings = load_config(config)
    from xbtmigrate.workflows.backfill.control import pause as pause_run

    content = pause_run(settings)
    if json:
        render.document(content)
        return
    render.say(f"The run of {content['migration']} is paused. It keeps its lease and its position.")
    render.next_step(content)


def resume(config: ConfigOption = CONFIG, json: JsonOption = False) -> None:
    """Resume a paused backfill; if it was killed meanwhile, the next run starts unpaused."""
    from xbtmigrate.config import load_config

    settings = load_config(config)
    from xbtmigrate.workflows.backfill.control import resume as resume_run

    content = resume_run(settings)
    if json:
        render.document(content)
        return
    # A pause stays in force after its run has ended, so it can be lifted while no run is active.
    if content["running"]:
        render.say(f"The run of {content['migration']} has resumed.")
    else:
        render.say("No backfill is running; the pause is lifted, so the next one starts at once.")
    render.next_step(content)


def throttle(
    config: ConfigOption = CONFIG,
    max_slowdown: SlowdownOption = None,
    max_rate: RateOption = None,
    off: Annotated[bool, typer.Option("--off", help="Lift both limits.")] = False,
    reset: Annotated[
        bool, typer.Option("--reset", help="Go back to the limits the run was started with.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Change the limits of the running backfill; they hold until they are changed again."""
    from xbtmigrate.config import load_config

    settings = load_config(config)
    from xbtmigrate.workflows.backfill.control import throttle as throttle_run

    content = throttle_run(
        settings, max_slowdown=max_slowdown, max_rate=max_rate, off=off, reset=reset
    )
    if json:
        render.document(content)
        return
    # The limits that hold now, as the run has confirmed them.
    shown = [
        (name, limit or "off") for name, limit in render.named(content, "max_slowdown", "max_rate")
    ]
    render.facts(f"Limits of the run of {content['migration']}", shown)
