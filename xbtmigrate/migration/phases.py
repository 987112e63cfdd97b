"""Define a migration's phases, the allowed transitions, and the record from which runs resume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from xbtmigrate.errors import GateError


# Stored in the journal, as the stages below are: the values must never change.
class Phase(StrEnum):
    """The progress of a migration as a whole; ends in -ing while a command works on it."""

    PLANNED = "planned"
    TRAINED = "trained"
    BACKFILLING = "backfilling"
    PAUSED = "paused"
    BACKFILLED = "backfilled"
    VERIFIED = "verified"
    CUTTING_OVER = "cutting_over"
    CUT_OVER = "cut_over"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    FINALIZING = "finalizing"
    FINALIZED = "finalized"
    ABORTING = "aborting"
    ABORTED = "aborted"


TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.PLANNED: frozenset({Phase.TRAINED, Phase.BACKFILLING, Phase.ABORTING}),
    Phase.TRAINED: frozenset({Phase.PLANNED, Phase.TRAINED, Phase.BACKFILLING, Phase.ABORTING}),
    Phase.BACKFILLING: frozenset({Phase.PAUSED, Phase.BACKFILLED, Phase.ABORTING}),
    # A run whose last sweep still found changes is paused; `verify` may find it complete.
    Phase.PAUSED: frozenset({Phase.BACKFILLING, Phase.VERIFIED, Phase.ABORTING}),
    Phase.BACKFILLED: frozenset({Phase.BACKFILLING, Phase.VERIFIED, Phase.ABORTING}),
    Phase.VERIFIED: frozenset(
        {Phase.BACKFILLING, Phase.BACKFILLED, Phase.CUTTING_OVER, Phase.ABORTING}
    ),
    # After a killed cutover, applications may already use the new side: continue or roll back.
    Phase.CUTTING_OVER: frozenset({Phase.CUT_OVER, Phase.ROLLING_BACK}),
    Phase.CUT_OVER: frozenset({Phase.ROLLING_BACK, Phase.FINALIZING}),
    Phase.ROLLING_BACK: frozenset({Phase.ROLLED_BACK}),
    Phase.ROLLED_BACK: frozenset({Phase.BACKFILLING, Phase.VERIFIED, Phase.ABORTING}),
    Phase.FINALIZING: frozenset({Phase.FINALIZED}),
    # The old vectors are deleted: only a new plan can follow.
    Phase.FINALIZED: frozenset({Phase.PLANNED}),
    Phase.ABORTING: frozenset({Phase.ABORTED}),
    # An abort keeps plan and projectors, so the same migration can start again.
    Phase.ABORTED: frozenset({Phase.PLANNED, Phase.TRAINED, Phase.BACKFILLING}),
}
"""Allowed next phases. A killed command leaves its phase in -ing, from which it continues."""

OVER = (Phase.FINALIZED, Phase.ABORTED)
"""Phases of a migration that has ended; the next run starts a new one."""
FREE = (Phase.PLANNED, Phase.TRAINED, *OVER)
"""Phases in which no collection holds anything of the migration."""


class Stage(StrEnum):
    """The passes of a backfill, in this order."""

    PROJECT = "project"
    ENCODE = "encode"
    SWEEP = "sweep"

    @property
    def doing(self) -> str:
        """What a run does in this pass, for people."""
        return {"project": "projecting", "encode": "encoding", "sweep": "sweeping"}[self]


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of a migration's backfill, summed over its runs."""

    projected: int = 0
    encoded: int = 0
    vanished: int = 0
    missing_source: int = 0
    failed: int = 0

    def plus(self, other: Counts) -> Counts:
        """Add two counts field by field."""
        return Counts(
            self.projected + other.projected,
            self.encoded + other.encoded,
            self.vanished + other.vanished,
            self.missing_source + other.missing_source,
            self.failed + other.failed,
        )


@dataclass(frozen=True, slots=True)
class MigrationRecord:
    """One migration, as the journal keeps it.

    Attributes:
        migration: Name of the migration; also the name of its folder of artefacts.
        phase: Its progress.
        plan_digest: Digest of the plan that every write belongs to.
        projector_digest: Digest of the forward projector, "" where none is used.
        order_digest: Digest of the frozen order of re-encoding, "" until it is made.
        stage: Pass of the backfill that runs or ran last; None before the first.
        cursor: Last point id projected (stage project); a shortcut, never the truth.
        position: Number of places of the frozen order already handled (stage encode).
        fraction: Share of the points to be re-encoded by the present or last run.
        counts: What was done so far.
        seconds: Working time so far.
        owner: Holder of the lease, "" when free.
        heartbeat: Grows while the holder is alive; compared for change only, never as a time.
        tool_version: Version of xbtmigrate that wrote the record.
        updated_at: When the record was stored, UTC, ISO 8601.
        verified_at: When a verification found the migration clean, UTC, ISO 8601; "" if none did
            since the last write.
        without_vector: Points that may stay without a new vector, as accepted at the cutover.
        switch: What applications are to query, as `migration/switch.py` writes it; None before the
            first cutover.
        collections: Real names of the collections it reads and writes, of which no other
            migration may use one meanwhile.
    """

    migration: str
    phase: Phase
    plan_digest: str
    projector_digest: str = ""
    order_digest: str = ""
    stage: Stage | None = None
    cursor: str | None = None
    position: int = 0
    fraction: float = 0.0
    counts: Counts = field(default_factory=Counts)
    seconds: float = 0.0
    owner: str = ""
    heartbeat: int = 0
    tool_version: str = ""
    updated_at: str = ""
    verified_at: str = ""
    without_vector: int = 0
    switch: Mapping[str, Any] | None = None
    collections: tuple[str, ...] = ()

    def move_to(self, phase: Phase) -> MigrationRecord:
        """Return the record in another phase.

        Raises:
            GateError: The table of transitions does not allow it.
        """
        # Staying in a phase is always allowed: a killed command is repeated in it.
        if phase is not self.phase and phase not in TRANSITIONS[self.phase]:
            allowed = ", ".join(sorted(TRANSITIONS[self.phase])) or "nothing: it has ended"
            raise GateError(
                f"migration '{self.migration}' is {self.phase}; it cannot become {phase}",
                f"from {self.phase} the next phase can be: {allowed}",
            )
        return replace(self, phase=phase)


def utc_now() -> str:
    """Return the present time in UTC, ISO 8601, to the second."""
    # One format and one zone, so that two moments also compare as strings.
    return _now().isoformat(timespec="seconds")


def seconds_since(moment: str) -> float:
    """Return the seconds since a time of `utc_now`; negative if the clock was set back."""
    return (_now() - datetime.fromisoformat(moment)).total_seconds()


def _now() -> datetime:
    """Read the wall clock, only here: it may jump, so no lease or wait depends on it."""
    return datetime.now(UTC)
