"""Parse `abort`: undo a migration that is not cut over."""

from __future__ import annotations

from xbtmigrate.cli import render
from xbtmigrate.cli.options import (
    CONFIG,
    NOTICE,
    ConfigOption,
    JsonOption,
    NoticeOption,
    YesOption,
)


def abort(
    config: ConfigOption = CONFIG,
    yes: YesOption = False,
    notice: NoticeOption = NOTICE,
    json: JsonOption = False,
) -> None:
    """Remove everything the migration wrote, so that the collection is as it was before.

    Projectors and encoded vectors are kept under .xbtmigrate/.
    """
    from xbtmigrate.config import load_config

    settings = load_config(config)
    from xbtmigrate.workflows.cutover.abort import abort as run

    with render.progress() as bars:
        content = run(settings, act=yes, notice=notice, report=bars)
    if json:
        render.document(content)
        return
    title = f"Abort of {content['collection']}"
    render.facts(title, render.named(content, "status", "phase", "removes"))
    render.next_step(content)
