"""Send commands to a run from another shell, and read what it reports.

Both are separate points beside the record, so that no lease is needed to write them.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from xbtmigrate.backfill.pace import Limits
from xbtmigrate.migration.phases import utc_now
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.own_collection import (
    JOURNAL,
    decode_record,
    delete_records,
    ensure_journal,
    put_record,
    record_id,
)


@dataclass(frozen=True, slots=True)
class Command:
    """The last command from another shell, in force until the next one.

    Attributes:
        paused: Whether the run shall wait.
        limits: Limits in place of those the run was started with; None for those.
        token: Random id of the command; the run publishes the token of the one that it follows.
        asked_at: When, UTC, ISO 8601; "" for never.
    """

    paused: bool = False
    limits: Limits | None = None
    token: str = ""
    asked_at: str = ""


@dataclass(frozen=True, slots=True)
class _Wait:
    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Load:
    """The form that a published load must have."""

    state: str = ""
    reason: str = ""
    batch_size: int = 0
    delay_seconds: float = 0.0
    points_per_second: float = 0.0
    probe_p95_ms: float | None = None
    baseline_p95_ms: float | None = None
    slowdown: float | None = None
    max_slowdown: float | None = None
    max_rate: float | None = None
    pauses: Mapping[str, _Wait] = field(default_factory=dict)
    token: str = ""
    updated_at: str = ""


@dataclass(frozen=True, slots=True)
class _StoredError:
    message: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Control:
    """The command, the published load and the last error of one migration.

    Attributes:
        connection: The open Qdrant.
        migration: Name of the migration.
    """

    connection: Connection
    migration: str

    def read_command(self) -> Command:
        """Read the last command."""
        # Without a record, the defaults apply: not paused, limits as the run was started with.
        return decode_record(self._read("command"), Command, f"command for '{self.migration}'")

    def send_command(self, *, paused: bool, limits: Limits | None) -> Command:
        """Store a new command and return it."""
        command = Command(paused, limits, uuid.uuid4().hex, utc_now())
        self._store("command", asdict(command))
        return command

    def read_load(self) -> dict[str, Any]:
        """Read the load that the run published last; empty if there is none."""
        found = self._read("load")
        # Validated and returned as it is, so that keys added by a newer version are shown too.
        decode_record(found, _Load, f"load of '{self.migration}'")
        return found

    def publish_load(self, load: Mapping[str, Any]) -> None:
        """Store the load of the run for `status` and other readers."""
        self._store("load", load)

    def read_error(self) -> tuple[str, str] | None:
        """Read the error that ended the last run, with its hint; None if there was none."""
        found = decode_record(self._read("error"), _StoredError, f"error of '{self.migration}'")
        return (found.message, found.hint) if found.message else None

    def store_error(self, error: tuple[str, str] | None) -> None:
        """Store the error that ended a run, or clear that of an earlier run."""
        # Most runs end without an error and need not write.
        if error is None and self.read_error() is None:
            return
        message, hint = error or ("", "")
        self._store("error", {"message": message, "hint": hint})

    def forget(self) -> None:
        """Delete command, load and error of a migration that has ended."""
        kinds = ("command", "load", "error")
        delete_records(self.connection, [self._id(kind) for kind in kinds])

    def _read(self, kind: str) -> dict[str, Any]:
        client = self.connection.client
        if not self.connection.call(lambda: client.collection_exists(JOURNAL)):
            return {}
        found = self.connection.call(lambda: client.retrieve(JOURNAL, [self._id(kind)]))
        return dict(found[0].payload or {}) if found else {}

    def _store(self, kind: str, content: Mapping[str, Any]) -> None:
        ensure_journal(self.connection)
        payload = {**content, "kind": kind, "migration": self.migration}
        put_record(self.connection, self._id(kind), payload)

    def _id(self, kind: str) -> str:
        return record_id(kind, self.migration)
