"""Close a report with the commands to run next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xbtmigrate.documents.next_step import NextDocument
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.report.page import Section
from xbtmigrate.types import Strategy
from xbtmigrate.workflows.next_step import BACKFILL, CUTOVER, TRAIN, VERIFY

WAY = {
    TRAIN: "Fits the maps between both models.",
    "xbtmigrate backfill": "Shows what would be written, and writes nothing.",
    BACKFILL: "Writes the new vectors while the collection serves. Ctrl-C "
    "stops it, the same command goes on.",
    "xbtmigrate compare": "Shows what both models find for your own queries, side by side.",
    VERIFY: "Checks every point.",
    CUTOVER: "Shows what a cutover checks; with --yes it switches.",
    "xbtmigrate rollback --yes": "Goes back, at any time before finalize.",
    "xbtmigrate finalize": "Deletes the old vectors for good, when no application needs them.",
}
"""The commands of a migration that writes, in their order."""


def what_next(advice: Mapping[str, Any], following: NextDocument) -> Section:
    """Return the section that names the next command, and those after it.

    Args:
        advice: The recommendation.
        following: The next command, as the command line prints it.
    """
    command, note = following["next"], following["next_note"] or ""
    steps = [] if command is None else [(command, WAY.get(command, ""))]
    # Where nothing is to be written, or a person has to act first, no way is known beyond that.
    if advice["strategy"] not in (None, Strategy.KEEP, Strategy.BRIDGE):
        names = list(WAY)
        if STRATEGIES[Strategy(advice["strategy"])].only_encodes:
            names.remove(TRAIN)
        begun = [place for place, name in enumerate(names) if (command or "").startswith(name)]
        # `backfill --online --fraction 0.5` begins with two of them: the longer one is meant.
        steps += [(name, WAY[name]) for name in names[max(begun, default=-1) + 1 :] if command]
    text = note or "In this order; each command names the next one when it ends."
    return Section("What to do next", text, steps=steps)
