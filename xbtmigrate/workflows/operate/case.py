"""What the checks of `doctor` read, and what they find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.config import Config
from xbtmigrate.migration.phases import OVER, MigrationRecord, Phase
from xbtmigrate.migration.plan import Plan
from xbtmigrate.qdrant.journal.lease_owner import Owner
from xbtmigrate.qdrant.wire.connection import Connection


@dataclass(frozen=True, slots=True)
class Case:
    """What every check reads.

    Attributes:
        config: The settings.
        connection: The open Qdrant.
        artefacts: The migration's folder.
        record: The journal's record, None if there is none.
        plan: The frozen plan, None if there is none or it is damaged.
        plan_error: Why the plan cannot be read, "" if it can or there is none.
    """

    config: Config
    connection: Connection
    artefacts: Artefacts
    record: MigrationRecord | None
    plan: Plan | None
    plan_error: str

    @property
    def begun(self) -> MigrationRecord | None:
        """The record of a migration that has written something and has not ended."""
        # Before the first backfill there are only files, which a new plan simply replaces.
        free = (Phase.PLANNED, Phase.TRAINED, *OVER)
        return self.record if self.record and self.record.phase not in free else None

    @property
    def owner(self) -> Owner | None:
        """Holder of the lease."""
        return Owner.parse(self.record.owner) if self.record else None

    def has(self, collection: str) -> bool:
        """Whether there is such a collection."""
        client = self.connection.client
        return self.connection.call(lambda: client.collection_exists(collection))


@dataclass(frozen=True, slots=True)
class Inconsistency:
    """One inconsistency.

    Attributes:
        name: Its name.
        message: What is wrong.
        way_out: What to do.
        fix: Fixes it without any risk; None where a person has to decide.
    """

    name: str
    message: str
    way_out: str
    fix: Callable[[], object] | None = None
