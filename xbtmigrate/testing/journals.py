"""Provide a journal in memory, and the contract that every journal has to meet.

To test another journal, subclass `JournalContract`, give it an `open_journal` fixture and run
pytest.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, MutableMapping
from dataclasses import replace
from typing import TypeAlias

import pytest

from xbtmigrate.errors import LeaseError
from xbtmigrate.migration.phases import FREE, OVER, Counts, MigrationRecord, Phase, Stage, utc_now
from xbtmigrate.protocols import Journal


class MemoryJournal:
    """A journal in memory; journals over the same mapping compete for the same lease.

    Args:
        migration: Name of the migration.
        records: Where the records are kept, by migration.
    """

    def __init__(self, migration: str, records: MutableMapping[str, MigrationRecord]) -> None:
        self._migration = migration
        self._records = records
        self._owner = uuid.uuid4().hex

    def load(self) -> MigrationRecord | None:
        """Read the record, or None if this migration was never started."""
        return self._records.get(self._migration)

    def acquire(self, record: MigrationRecord) -> MigrationRecord:
        """Take the lease unless another journal holds it."""
        present = self.load()
        if present is not None and present.owner not in ("", self._owner):
            raise LeaseError(
                f"migration '{self._migration}' is held by {present.owner}",
                "wait for that run to end",
            )
        if present is None or present.phase in FREE:
            self._refuse_rivals(record)
        return self._store(record)

    def save(self, record: MigrationRecord) -> None:
        """Store the record while this journal holds the lease."""
        present = self.load()
        if present is None or present.owner != self._owner:
            raise LeaseError(
                f"the lease of migration '{self._migration}' was lost", "run the command again"
            )
        self._store(record)

    def release(self) -> None:
        """Give the lease back; safe to call twice."""
        present = self.load()
        if present is not None and present.owner == self._owner:
            self._records[self._migration] = replace(present, owner="")

    def _refuse_rivals(self, record: MigrationRecord) -> None:
        for each in self._records.values():
            # A planned migration has written nothing, so it counts only while a run holds it.
            writes = each.phase not in FREE or (each.owner and each.phase not in OVER)
            shared = {*each.collections} & {*record.collections}
            if each.migration != self._migration and writes and shared:
                raise LeaseError(
                    f"the migration '{each.migration}' ({each.phase}) already has {shared}",
                    "finish or abort that one",
                )

    def _store(self, record: MigrationRecord) -> MigrationRecord:
        present = self.load()
        heartbeat = 1 if present is None else present.heartbeat + 1
        stored = replace(record, owner=self._owner, heartbeat=heartbeat, updated_at=utc_now())
        self._records[self._migration] = stored
        return stored


OpenJournal: TypeAlias = Callable[[str], Journal]
"""Opens a journal of the named migration; every call acts as another run over the same store."""


def started(migration: str = "m") -> MigrationRecord:
    """Return the record of a migration that is well under way."""
    return MigrationRecord(
        migration=migration,
        phase=Phase.BACKFILLING,
        plan_digest="p" * 64,
        projector_digest="q" * 64,
        order_digest="o" * 64,
        stage=Stage.ENCODE,
        # The largest id of Qdrant: stored as a float or a signed integer it is lost.
        cursor="18446744073709551615",
        position=12,
        fraction=0.3,
        counts=Counts(projected=5, encoded=4, vanished=3, missing_source=2, failed=1),
        seconds=1.5,
        tool_version="0.1.0",
        without_vector=7,
        switch={"version": 1, "aliases": ["live"], "old_encoder": {"options": {"size": 3}}},
    )


def without_lease(record: MigrationRecord | None) -> MigrationRecord | None:
    """Return the record without what the journal itself fills in."""
    return record and replace(record, owner="", heartbeat=0, updated_at="")


class JournalContract:
    """Behaviours every journal shares; a subclass provides the fixture `open_journal`."""

    def test_a_migration_never_started_has_no_record(self, open_journal: OpenJournal) -> None:
        """Another migration's record is not mistaken for it."""
        assert open_journal("m").load() is None
        open_journal("other").acquire(started("other"))
        assert open_journal("m").load() is None

    def test_stores_the_whole_record(self, open_journal: OpenJournal) -> None:
        """Every field survives, and the holder is named."""
        held = open_journal("m").acquire(started())
        loaded = open_journal("m").load()
        assert without_lease(loaded) == without_lease(held) == started()
        assert loaded is not None
        assert loaded.owner == held.owner != ""
        assert loaded.updated_at.endswith("+00:00")

    def test_saves_progress(self, open_journal: OpenJournal) -> None:
        """The last saved record is what another run finds; None is a value too."""
        journal = open_journal("m")
        journal.acquire(started())
        # None as well: a journal that merges records would keep the former values.
        later = replace(started(), position=40, cursor=None, stage=None, counts=Counts())
        journal.save(later)
        assert without_lease(open_journal("m").load()) == later

    def test_a_held_lease_is_refused(self, open_journal: OpenJournal) -> None:
        """The second run changes nothing."""
        open_journal("m").acquire(started())
        with pytest.raises(LeaseError) as refusal:
            open_journal("m").acquire(replace(started(), position=99))
        assert refusal.value.hint
        loaded = open_journal("m").load()
        assert loaded is not None
        assert loaded.position == 12

    def test_migrations_do_not_share_a_lease(self, open_journal: OpenJournal) -> None:
        """Two collections can be migrated at once."""
        open_journal("m").acquire(started())
        assert open_journal("other").acquire(started("other")).migration == "other"

    def test_a_collection_has_one_migration_at_a_time(self, open_journal: OpenJournal) -> None:
        """Another one is refused with the first one's name and phase, until that is over."""
        # Unique, since the suite may run again on a server that keeps earlier records.
        source, target, third = (uuid.uuid4().hex for _ in range(3))
        first = open_journal("m")
        held = first.acquire(replace(started(), collections=(source, target)))
        assert held.collections == (source, target)
        first.release()
        rival = replace(started("rival"), phase=Phase.PLANNED, collections=(target, third))
        with pytest.raises(LeaseError) as refusal:
            open_journal("rival").acquire(rival)
        assert "'m' (backfilling)" in refusal.value.message
        assert "abort" in refusal.value.hint
        assert open_journal("rival").load() is None
        open_journal("m").acquire(replace(held, phase=Phase.ABORTED))
        assert open_journal("rival").acquire(rival).owner

    def test_a_released_lease_can_be_taken(self, open_journal: OpenJournal) -> None:
        """The record stays; releasing twice is harmless."""
        first = open_journal("m")
        first.acquire(started())
        first.release()
        loaded = open_journal("m").load()
        assert loaded is not None
        assert (loaded.owner, loaded.position) == ("", 12)
        second = open_journal("m")
        # The first run releases once more, late: that must not free the lease of the second.
        held = second.acquire(replace(started(), position=13))
        first.release()
        second.save(replace(held, position=14))
        after = open_journal("m").load()
        assert after is not None
        assert (after.owner, after.position) == (held.owner, 14)

    def test_only_the_holder_saves(self, open_journal: OpenJournal) -> None:
        """Neither a run that never had the lease nor one that gave it back may save."""
        holder = open_journal("m")
        held = holder.acquire(started())
        with pytest.raises(LeaseError):
            open_journal("m").save(replace(held, position=99))
        holder.release()
        with pytest.raises(LeaseError):
            holder.save(replace(held, position=99))
        loaded = open_journal("m").load()
        assert loaded is not None
        assert loaded.position == 12
