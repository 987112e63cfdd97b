"""Name the next command in every phase of a migration, from one table."""

from __future__ import annotations

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.migration.phases import MigrationRecord, Phase
from xbtmigrate.migration.plan import Plan
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.types import Direction, Strategy

AFTER_ABORT = "xbtmigrate plan, or xbtmigrate backfill --online to begin anew"
AFTER_FINALIZE = "change the configuration as listed above before the next migration"
JUDGE = (
    "write judged queries (docs/judging.md), name them in plan.queries, then xbtmigrate plan; or "
    "set plan.strategy to do without"
)
BACKFILL = "xbtmigrate backfill --online"
NEXT = {
    Phase.BACKFILLING: BACKFILL,
    Phase.PAUSED: BACKFILL,
    Phase.BACKFILLED: "xbtmigrate evaluate --queries FILE, then xbtmigrate verify",
    Phase.VERIFIED: "xbtmigrate cutover",
    Phase.CUTTING_OVER: "xbtmigrate cutover --yes",
    Phase.CUT_OVER: "xbtmigrate cutover --yes again for late writes, then xbtmigrate finalize",
    Phase.ROLLING_BACK: "xbtmigrate rollback --yes",
    Phase.ROLLED_BACK: "xbtmigrate abort, or xbtmigrate verify to cut over again",
    Phase.FINALIZING: "xbtmigrate finalize",
    Phase.FINALIZED: AFTER_FINALIZE,
    Phase.ABORTING: "xbtmigrate abort --yes",
    Phase.ABORTED: AFTER_ABORT,
}


def find_next_step(
    phase: Phase | None, plan: Plan | None, *, running: bool = False, paused: bool = False
) -> str:
    """Return the next command to type, or why there is none.

    Args:
        phase: Where the migration stands; None before planning.
        plan: The plan, where there is one.
        running: Whether a command holds the lease and is alive.
        paused: Whether a `pause` is in force. It outlives its run, so the next one would wait, too.
    """
    # The holder of the lease moves the phase on, so no other command is due.
    if running:
        return "xbtmigrate resume" if paused else "nothing to do: a command is at work"
    if phase is None or plan is None:
        return "xbtmigrate plan"
    if phase in (Phase.PLANNED, Phase.TRAINED):
        return _before(phase, plan)
    step = NEXT[phase]
    return f"xbtmigrate resume, then {step}" if paused and step == BACKFILL else step


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


def _before(phase: Phase, plan: Plan) -> str:
    """Return the next step while nothing is written."""
    if plan.strategy is Strategy.KEEP:
        if plan.recommendation.strategy is None:
            return JUDGE
        return "nothing: the plan says keep; plan.strategy in the configuration overrules it"
    spec = STRATEGIES[plan.strategy]
    if phase is Phase.PLANNED and not spec.only_encodes:
        return "xbtmigrate train-projector"
    if not spec.writes:
        return "xbtmigrate publish --yes, and serve with the bridge: nothing is written"
    return "xbtmigrate backfill, then xbtmigrate backfill --online"
