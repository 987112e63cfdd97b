"""Print where each of many migrations stands, those that need attention first."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from xbtmigrate.cli import many, render
from xbtmigrate.errors import XbtMigrateError

if TYPE_CHECKING:
    from xbtmigrate.documents.many import OneOfManyDocument
    from xbtmigrate.documents.next_step import NextDocument
    from xbtmigrate.workflows.operate.status_of_many import Standing


def show_statuses(config: Path, *, json: bool) -> None:
    """Print the status of every collection of a configuration of many.

    Raises:
        XbtMigrateError: The server cannot be used, or the configuration names no collection.
        typer.Exit: Of some, the status cannot be told.
    """
    from xbtmigrate.config import load_config
    from xbtmigrate.workflows.many import list_collections
    from xbtmigrate.workflows.operate.status_of_many import report_statuses

    configs = [load_config(config, name) for name in list_collections(config)]
    found: list[Standing] = []
    with render.progress() as bars:
        for each in report_statuses(configs):
            found.append(each)
            bars("status", len(found), len(configs), each.collection)
    found.sort(key=lambda each: (*each.rank, each.collection))
    following = _next(found)
    if json:
        many.print_document("status", [_row(each) for each in found], following)
    else:
        _show(found)
        render.next_step(following)
    if any(isinstance(each.status, XbtMigrateError) for each in found):
        raise typer.Exit(XbtMigrateError.exit_code)


def _row(found: Standing) -> OneOfManyDocument:
    if isinstance(found.status, XbtMigrateError):
        return many.row_of_error(found.collection, found.status)
    message = found.concern or found.status["phase"]
    return many.row(found.collection, "done", message, document={**found.status})


def _next(found: list[Standing]) -> NextDocument:
    """Return the next command where it is the same for all."""
    steps = {
        None if isinstance(each.status, XbtMigrateError) else each.status["next"] for each in found
    }
    if len(steps) == 1:
        return {"next": steps.pop(), "next_note": None}
    note = (
        "They stand at different steps; the first that need something come first. To see all of "
        "one, name it in the environment: XBTMIGRATE_COLLECTION=NAME xbtmigrate status"
    )
    return {"next": None, "next_note": note}


def _show(found: list[Standing]) -> None:
    names = ("points", "projected", "encoded", "left")
    rows: list[list[object]] = []
    for each in found:
        if isinstance(each.status, XbtMigrateError):
            rows.append([each.collection, "error", *[None] * len(names), each.status.message])
        else:
            counts = [each.status[name] for name in names]  # type: ignore[literal-required]
            rows.append([each.collection, each.status["phase"], *counts, each.concern])
    render.table(
        f"Status of {len(found)} collections",
        ["collection", "phase", *names, "needs attention"],
        rows,
    )
    phases = Counter(str(row[1]) for row in rows)
    render.say(", ".join(f"{count:,} {phase}" for phase, count in phases.items()))
