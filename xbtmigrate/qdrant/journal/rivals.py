"""Refuse to start while another migration uses the same collections."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from qdrant_client import models

from xbtmigrate.errors import LeaseError
from xbtmigrate.migration.phases import FREE, OVER, Phase
from xbtmigrate.qdrant.journal.lease_owner import Owner
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.own_collection import JOURNAL, record_id

_RECORDS = models.Filter(
    must=[models.FieldCondition(key="kind", match=models.MatchValue(value="migration"))]
)
_PAGE = 1000
# Applications read the new vectors, or soon will: `abort` would delete them.
_SWITCHED = (Phase.CUTTING_OVER, Phase.CUT_OVER, Phase.ROLLING_BACK)


def find_records(
    connection: Connection, collections: Collection[str]
) -> dict[str, Mapping[str, Any]]:
    """Return the journal's records of migrations that use one of some collections, by point id.

    They are not parsed: another migration may be from a newer version, or its record damaged.
    """
    client, wanted = connection.client, set(collections)
    if not connection.call(lambda: client.collection_exists(JOURNAL)):
        return {}
    found: dict[str, Mapping[str, Any]] = {}
    after: models.ExtendedPointId | None = None
    while True:
        records, after = connection.call(
            lambda offset=after: client.scroll(JOURNAL, _RECORDS, limit=_PAGE, offset=offset)  # type: ignore[misc]
        )
        payloads = {str(record.id): record.payload or {} for record in records}
        found |= {key: each for key, each in payloads.items() if wanted & _collections(each)}
        if after is None:
            return found


def find_finished(
    connection: Connection, migration: str, collections: Collection[str]
) -> list[str]:
    """Return the names of other, finished migrations that used one of some collections."""
    own = record_id("migration", migration)
    return [
        str(record.get("migration"))
        for key, record in find_records(connection, collections).items()
        if key != own and record.get("phase") in OVER
    ]


def refuse_rivals(connection: Connection, migration: str, collections: Collection[str]) -> None:
    """Raise if another migration uses a collection: both would mark its points.

    Args:
        connection: The open Qdrant.
        migration: Name of the migration that is to begin.
        collections: Real names of the collections it reads and writes.

    Raises:
        LeaseError: Another migration has one of them; names it, its phase and its ways out.
    """
    own = record_id("migration", migration)
    for key, record in find_records(connection, collections).items():
        if key == own or not _is_under_way(record, connection):
            continue
        name, phase = str(record.get("migration")), str(record.get("phase"))
        shared = ", ".join(f"'{each}'" for each in sorted({*collections} & _collections(record)))
        raise LeaseError(
            f"the migration '{name}' ({phase}) already has the collection {shared}",
            f"a collection can have one migration at a time: for '{name}', {_ways_out(phase)}",
        )


def _is_under_way(record: Mapping[str, Any], connection: Connection) -> bool:
    phase = record.get("phase")
    # An unknown phase, from a newer version, counts as in progress.
    if phase in OVER or phase not in FREE:
        return phase not in OVER
    # It has written nothing yet, so it counts only while a run holds its lease.
    owner = Owner.parse(str(record.get("owner", "")))
    return owner is not None and not connection.embedded and not owner.is_dead()


def _ways_out(phase: str) -> str:
    if phase in _SWITCHED:
        return "finish it with `xbtmigrate finalize`, or undo it with `xbtmigrate rollback`"
    if phase in (Phase.FINALIZING, Phase.ABORTING):
        return "run the command that `xbtmigrate status` names: it continues from there"
    return "finish it (`xbtmigrate status` names the next step), or `xbtmigrate abort --yes`"


def _collections(record: Mapping[str, Any]) -> set[str]:
    names = record.get("collections")
    return {str(each) for each in names} if isinstance(names, list) else set()
