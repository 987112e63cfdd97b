"""Keep a migration's record beside its data, and the lease that allows one run at a time.

Every change of a record is one conditional write: it applies only while the owner is still the
one that was read. The holder's heartbeat grows; a rival watches it by its own monotonic clock, so
the clocks of two machines are never compared.

In a cluster these writes pass through the leader of the moment, not through the permanent one
(ordering strong), without which no run could go on while that peer is down. Should two runs hold
the lease while leaders change, a mark still names the vector it was made for.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from qdrant_client import models

import xbtmigrate
from xbtmigrate.errors import ArtefactError, LeaseError, UnsupportedError, XbtMigrateError
from xbtmigrate.migration.phases import FREE, MigrationRecord, Phase, utc_now
from xbtmigrate.qdrant.journal.lease_owner import Owner
from xbtmigrate.qdrant.journal.rivals import refuse_rivals
from xbtmigrate.qdrant.wire.connection import CONDITIONAL_UPSERT, MEDIUM, Connection
from xbtmigrate.qdrant.wire.own_collection import JOURNAL, decode_record, ensure_journal, record_id

_log = logging.getLogger(__name__)


class QdrantJournal:
    """Record and lease of one migration.

    Args:
        connection: The open Qdrant.
        migration: Name of the migration.
        ttl: Seconds without a heartbeat after which a lease counts as abandoned.
    """

    def __init__(self, connection: Connection, migration: str, *, ttl: float = 15.0) -> None:
        self._connection = connection
        # A lost beat is made up for by the next one, and a dead owner is detected anyway.
        self._brief = connection.brief()
        self._migration = migration
        self._ttl = ttl
        self._id = record_id("migration", migration)
        self._owner = ""
        self._heartbeat = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def load(self) -> MigrationRecord | None:
        """Read the record, or None if this migration was never started."""
        return self._read(self._connection)

    def acquire(self, record: MigrationRecord) -> MigrationRecord:
        """Take the lease, then store and return `record` with its owner.

        A lease whose process is known to be dead is taken over at once, any other only after its
        heartbeat stood still for `ttl` seconds.

        A migration that begins also reserves its collections until it has ended.

        Raises:
            LeaseError: Another run holds the lease and is alive, or another migration has one of
                the collections.
            UnsupportedError: A newer version of the tool wrote the record.
        """
        ensure_journal(self._connection)
        present = self.load()
        # A migration in progress already holds its collections; only a new one can collide with
        # another.
        begins = present is None or present.phase in FREE
        if begins:
            refuse_rivals(self._connection, self._migration, record.collections)
        present = present or self._insert(record)
        _refuse_newer(present)
        self._wait_until_free(present)
        owner = str(Owner.here())
        # The swap also raises the heartbeat, so of two runs that read the same record, one swap
        # applies.
        held = replace(record, owner=owner, heartbeat=present.heartbeat + 1, updated_at=utc_now())
        now = self._swap(held, present.owner, present.heartbeat)
        # A write whose condition matches nothing succeeds too: only the record shows the winner.
        if now.owner != owner:
            raise self._held_by(now)
        self._owner, self._heartbeat = owner, held.heartbeat
        # Before the second check, which may take longer than the lease lasts without a heartbeat.
        self._keep_alive()
        if begins:
            self._look_again(held)
        return held

    def save(self, record: MigrationRecord) -> None:
        """Store the record; only the holder of the lease may.

        Raises:
            LeaseError: The lease was lost.
        """
        with self._lock:
            self._beat(record, self._connection)

    def release(self) -> None:
        """Release the lease; safe to call twice.

        A lease that cannot be released expires, so a failure here neither fails a finished run nor
        hides why a run failed.
        """
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        owner, self._owner = self._owner, ""
        if not owner:
            return
        try:
            self._set(self._brief, {"owner": ""}, owner)
        except XbtMigrateError as error:
            _log.warning(
                "the lease of '%s' could not be released (%s); the next run takes over in about "
                "%.0f s",
                self._migration,
                error.message,
                self._ttl,
            )

    def _read(self, connection: Connection) -> MigrationRecord | None:
        client = connection.client
        if not connection.call(lambda: client.collection_exists(JOURNAL)):
            return None
        found = connection.call(lambda: client.retrieve(JOURNAL, [self._id]))
        return record_of(found[0].payload or {}) if found else None

    def _insert(self, record: MigrationRecord) -> MigrationRecord:
        """Insert the record without an owner, unless a rival has done so meanwhile."""
        free = replace(record, owner="", heartbeat=0, updated_at=utc_now())
        point = models.PointStruct(id=self._id, vector={}, payload=_payload(free))
        never = models.Filter(must_not=[models.HasIdCondition(has_id=[self._id])])
        atomic = self._connection.at_least(CONDITIONAL_UPSERT)
        client = self._connection.client
        self._connection.write(
            lambda: client.upsert(
                JOURNAL,
                [point],
                wait=True,
                ordering=MEDIUM,
                update_filter=never if atomic else None,
            )
        )
        if not atomic:
            # A rival that also found nothing may have inserted by now; the race begins here.
            time.sleep(1.0)
        return self.load() or free

    def _wait_until_free(self, present: MigrationRecord) -> None:
        """Return once the lease, as read in `present`, is free or its holder is dead."""
        if present.owner == "":
            return
        owner = Owner.parse(present.owner)
        if self._connection.embedded:
            # The folder is locked for this process: any other owner is gone.
            if owner is not None and owner.is_this_process():
                raise self._held_by(present)
            return
        if owner is not None and owner.is_dead():
            return
        # The times in the record are from another clock: what counts is whether it changes while
        # watched.
        deadline = time.monotonic() + self._ttl
        while time.monotonic() < deadline:
            time.sleep(min(self._ttl / 15, 1.0))
            now = self.load()
            # Any change is a sign of life: of the holder, or of a rival that was faster.
            if now is None or (now.owner, now.heartbeat) != (present.owner, present.heartbeat):
                raise self._held_by(now or present)

    def _look_again(self, held: MigrationRecord) -> None:
        """Raise if a rival began at the same time: of two, at least one sees the other."""
        try:
            refuse_rivals(self._connection, self._migration, held.collections)
        except LeaseError:
            self.release()
            raise

    def _held_by(self, record: MigrationRecord) -> LeaseError:
        owner = Owner.parse(record.owner)
        shown = owner.shown if owner else record.owner or "a run that just ended"
        return LeaseError(
            f"migration '{self._migration}' is held by {shown}",
            "one run at a time: wait for it or stop it, then run the same command again",
        )

    def _keep_alive(self) -> None:
        # The lock of an embedded folder already keeps other processes out.
        if self._connection.embedded:
            return
        self._stop.clear()
        self._thread = threading.Thread(target=self._beat_until_released, daemon=True)
        self._thread.start()

    def _beat_until_released(self) -> None:
        # Five beats fit into the ttl, so one or two lost beats do no harm.
        while not self._stop.wait(self._ttl / 5):
            try:
                with self._lock:
                    self._beat(None, self._brief)
            except LeaseError:
                return
            except XbtMigrateError:
                # Qdrant is unreachable: the next beat tries again, and `save` tells the run.
                continue

    def _beat(self, record: MigrationRecord | None, connection: Connection) -> None:
        """Store the record, if any, with the next heartbeat."""
        heartbeat = self._heartbeat + 1
        changes: dict[str, Any] = {} if record is None else _payload(record)
        changes |= {"owner": self._owner, "heartbeat": heartbeat, "updated_at": utc_now()}
        owner = self._owner
        # Without an owner the lease was released: nothing more may be written.
        now = self._set(connection, changes, owner) if owner else self._read(connection)
        if now is None or not self._owner or now.owner != self._owner:
            raise LeaseError(
                f"the lease of migration '{self._migration}' was lost"
                + (f" to {now.owner}" if now is not None and now.owner else ""),
                "another run took over while this one was cut off; run the command again",
            )
        self._heartbeat = heartbeat

    def _swap(self, record: MigrationRecord, owner: str, heartbeat: int) -> MigrationRecord:
        """Store the record if owner and heartbeat are unchanged; returns the record after that."""
        return self._set(self._connection, _payload(record), owner, heartbeat) or record

    def _set(
        self,
        connection: Connection,
        changes: Mapping[str, Any],
        owner: str,
        heartbeat: int | None = None,
    ) -> MigrationRecord | None:
        # Compare and swap: the filter names what was read, and the server applies it as one
        # operation.
        conditions: list[models.Condition] = [
            models.HasIdCondition(has_id=[self._id]),
            models.FieldCondition(key="owner", match=models.MatchValue(value=owner)),
        ]
        if heartbeat is not None:
            # Only for taking the lease; while it is held, the owner's random token is enough.
            match = models.MatchValue(value=heartbeat)
            conditions.append(models.FieldCondition(key="heartbeat", match=match))
        client = connection.client
        connection.write(
            lambda: client.set_payload(
                JOURNAL,
                dict(changes),
                models.Filter(must=conditions),
                wait=True,
                ordering=MEDIUM,
            )
        )
        return self._read(connection)


def _payload(record: MigrationRecord) -> dict[str, Any]:
    return {**asdict(record), "phase": str(record.phase), "kind": "migration"}


def record_of(payload: Mapping[str, Any]) -> MigrationRecord:
    """Read the payload of a migration's record.

    Raises:
        UnsupportedError: A newer version of the tool wrote it.
        ArtefactError: Something else changed it.
    """
    migration = str(payload.get("migration", "?"))
    try:
        return decode_record(payload, MigrationRecord, f"migration '{migration}'")
    except ArtefactError as error:
        version = payload.get("tool_version")
        if isinstance(version, str) and _is_newer(version):
            raise _foreign(migration, payload) from error
        raise


def _refuse_newer(record: MigrationRecord) -> None:
    """Raise if a newer version began the migration: its marks may have another meaning.

    Raises:
        UnsupportedError: It is the record of a newer version.
    """
    if _is_newer(record.tool_version):
        raise _foreign(record.migration, asdict(record))


def _foreign(migration: str, values: Mapping[str, Any]) -> UnsupportedError:
    version, phase = values.get("tool_version") or "of another version", str(values.get("phase"))
    known = "whose record holds more than" if phase in set(Phase) else "which is not"
    return UnsupportedError(
        f"xbtmigrate {version} left the migration '{migration}' in the phase '{phase}', {known} "
        f"known here, to version {xbtmigrate.__version__}",
        "continue with that version or a newer one; nothing was changed",
    )


def _is_newer(version: str) -> bool:
    return _numbers(version) > _numbers(xbtmigrate.__version__)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d{1,9}", version)[:3])
