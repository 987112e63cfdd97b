"""Name the next command in every phase of a migration, from one table.

Each is complete: whoever types it, or only ever what the command before has named, comes to the
end. What a person has to do or to know before that is in a note beside it.
"""

from __future__ import annotations

import re

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.documents.next_step import NextDocument
from xbtmigrate.migration.phases import MigrationRecord, Phase
from xbtmigrate.migration.plan import Plan
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.types import Direction, Strategy

_COMMAND = re.compile(r"`(xbtmigrate [^`]+)`")


def next_step(command: str | None, note: str | None = None) -> NextDocument:
    """Return the part of a document that names the next command."""
    return {"next": command, "next_note": note}


PLAN = "xbtmigrate plan"
TRAIN = "xbtmigrate train-projector"
BACKFILL = "xbtmigrate backfill --online"
VERIFY = "xbtmigrate verify"
CUTOVER = "xbtmigrate cutover"
RESUME = next_step("xbtmigrate resume")
AFTER_ABORT = next_step(PLAN, f"`{BACKFILL}` begins anew under the plan that is there.")
AFTER_FINALIZE = next_step(
    None,
    "The migration is over. The next one begins with today's new model as [old_model] "
    "(docs/successive-migrations.md).",
)
MEASURE = "`xbtmigrate evaluate` shows what this has brought."
NEXT = {
    Phase.BACKFILLING: next_step(BACKFILL),
    Phase.PAUSED: next_step(BACKFILL),
    Phase.BACKFILLED: next_step(VERIFY, MEASURE),
    Phase.VERIFIED: next_step(CUTOVER),
    Phase.CUTTING_OVER: next_step("xbtmigrate cutover --yes"),
    Phase.CUT_OVER: next_step(
        "xbtmigrate finalize",
        "Wait until every application reads and writes vectors of the new model. `xbtmigrate "
        "cutover --yes` carries over what is still written the old way; `xbtmigrate rollback` "
        "goes back.",
    ),
    Phase.ROLLING_BACK: next_step("xbtmigrate rollback --yes"),
    Phase.ROLLED_BACK: next_step(
        VERIFY, "It leads to another cutover; `xbtmigrate abort` undoes the migration."
    ),
    Phase.FINALIZING: next_step("xbtmigrate finalize"),
    Phase.FINALIZED: AFTER_FINALIZE,
    Phase.ABORTING: next_step("xbtmigrate abort --yes"),
    Phase.ABORTED: AFTER_ABORT,
}


def find_next_step(
    phase: Phase | None,
    plan: Plan | None,
    *,
    running: bool = False,
    paused: bool = False,
    route: str = "",
) -> NextDocument:
    """Return the next command, or why there is none.

    Args:
        phase: Where the migration stands; None before planning.
        plan: The plan, where there is one.
        running: Whether a command holds the lease and is alive.
        paused: Whether a `pause` is in force. It outlives its run, so the next one would wait, too.
        route: Option that a cutover needs, see `cutover_route`.
    """
    # The holder of the lease moves the phase on, so no other command is due.
    if running:
        return RESUME if paused else next_step(None, "A command is at work: nothing to do.")
    if phase is None or plan is None:
        return next_step(PLAN)
    if phase in (Phase.PLANNED, Phase.TRAINED):
        return _before(phase, plan)
    if phase is Phase.VERIFIED:
        return next_step(CUTOVER + route)
    return RESUME if paused and phase in (Phase.BACKFILLING, Phase.PAUSED) else NEXT[phase]


def find_phase(
    record: MigrationRecord | None, plan: Plan | None, artefacts: Artefacts
) -> Phase | None:
    """Return the phase of a migration; by its files before the first run makes the record."""
    if record is not None:
        return record.phase
    if plan is None:
        return None
    # `train-projector` writes files only: its phase is not in Qdrant until a backfill begins.
    trained = artefacts.projector_folder(Direction.FORWARD).exists()
    return Phase.TRAINED if trained else Phase.PLANNED


def find_command(text: str) -> str | None:
    """Return the first command in a way out; None where a person has to act."""
    found = _COMMAND.search(text)
    return found[1] if found else None


def _before(phase: Phase, plan: Plan) -> NextDocument:
    """Return the next step while nothing is written."""
    if plan.strategy is Strategy.KEEP:
        if plan.recommendation.strategy is None:
            return next_step(
                PLAN,
                "Write judged queries (docs/judging.md) and name them in plan.queries first, or "
                "set plan.strategy to do without.",
            )
        return next_step(
            None, "Nothing to do: the plan says keep. plan.strategy in the configuration overrules."
        )
    spec = STRATEGIES[plan.strategy]
    if phase is Phase.PLANNED and not spec.only_encodes:
        return next_step(TRAIN)
    if not spec.writes:
        return next_step(
            "xbtmigrate publish --yes", "Nothing else is written: queries cross the bridge."
        )
    return next_step("xbtmigrate backfill")
