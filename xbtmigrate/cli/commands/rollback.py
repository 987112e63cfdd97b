"""Parse `rollback`: copy back the writes since the cutover, then switch back."""

from __future__ import annotations

from typing import Annotated

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption, YesOption
from xbtmigrate.cli.process import end


def rollback(
    config: ConfigOption = CONFIG,
    yes: YesOption = False,
    leave_behind: Annotated[
        bool,
        typer.Option("--leave-behind", help="Roll back even if points cannot be carried back."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Switch applications back to the old vectors, with every write since the cutover.

    Run it again afterwards to carry back writes that still went to the new vectors.
    """
    from xbtmigrate.config import load_config

    settings = load_config(config)
    from xbtmigrate.workflows.cutover.rollback import rollback as run

    with render.progress() as bars:
        content = run(settings, act=yes, leave_behind=leave_behind, report=bars)
    if json:
        render.document(content)
    else:
        # A rollback moves the readers too: they must send old-model vectors again.
        render.say(content["readers"])
        names = ("status", "phase", "layout", "alias", "carried_back", "deleted", "newer_kept")
        render.facts(f"Rollback of {content['collection']}", render.counts(content, *names))
        for point in content["left_behind"]:
            render.say(f"Cannot be carried back: point {point}")
        render.next_step(content)
    # Without --yes, points that cannot be carried back would stop it.
    end(passed=yes or not content["left_behind"])
