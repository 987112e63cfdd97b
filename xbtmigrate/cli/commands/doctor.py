"""Parse `doctor`: report every inconsistency and how to resolve it."""

from __future__ import annotations

from typing import Annotated

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption
from xbtmigrate.cli.process import end


def doctor(
    config: ConfigOption = CONFIG,
    yes: Annotated[
        bool,
        typer.Option("--yes/--dry-run", help="Fix what is safe to fix; --dry-run is the default."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Compare journal, artefacts and collections; report what is wrong and what to do."""
    from xbtmigrate.config import load_config

    settings = load_config(config)
    from xbtmigrate.workflows.operate.doctor import examine

    content = examine(settings, fix=yes)
    if json:
        render.document(content)
    else:
        for each in content["findings"]:
            state = "fixed" if each["fixed"] else each["name"]
            render.say(f"{state}: {each['message']}\n    way out: {each['way_out']}")
        if not content["findings"]:
            render.say("Nothing is wrong.")
        render.next_step(content)
    # Exit code 3 while anything is wrong, so a monitor can run it.
    end(passed=content["healthy"])
