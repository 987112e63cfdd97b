"""Create the tool's collection in Qdrant, and record in it which shadows the tool has made.

Collection metadata could hold these records, but servers before 1.16 have none.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from qdrant_client import models

from xbtmigrate.files import parse
from xbtmigrate.qdrant.wire.connection import MEDIUM, Connection
from xbtmigrate.types import Distance

T = TypeVar("T")

JOURNAL = "_xbtmigrate"
"""Collection without vectors that keeps the tool's records; never deleted by the tool."""
DAMAGED = f"restore the collection {JOURNAL} from a snapshot; nothing was changed"
REPLICAS = 3
"""Replicas of the records, on as many peers as there are: a migration survives the loss of one."""
# Never change it: the ids of all existing records derive from it.
_NAMESPACE = uuid.UUID("6f1d1a4e-6d0d-5b57-9a0b-5b3c2f6f0e11")

ShadowRecord: TypeAlias = tuple[str, str, int, Distance]
"""Source collection, name, size and distance of the new vector."""


def record_id(kind: str, name: str) -> str:
    """Return the point id under which a record of the tool is kept."""
    return str(uuid.uuid5(_NAMESPACE, f"{kind}/{name}"))


def ensure_journal(connection: Connection) -> None:
    """Create the tool's own collection unless it exists."""
    client = connection.client
    if connection.call(lambda: client.collection_exists(JOURNAL)):
        return
    try:
        connection.call(
            lambda: client.create_collection(
                # One shard, so that one leader orders the writes to all records.
                JOURNAL,
                vectors_config={},
                shard_number=1,
                replication_factor=REPLICAS,
            )
        )
    except Exception:
        # Another run may have created it between the two requests.
        if not connection.call(lambda: client.collection_exists(JOURNAL)):
            raise


def put_record(connection: Connection, point_id: str, payload: Mapping[str, Any]) -> None:
    """Store a record, replacing an earlier one."""
    point = models.PointStruct(id=point_id, vector={}, payload=dict(payload))
    connection.write(lambda: connection.client.upsert(JOURNAL, [point], wait=True, ordering=MEDIUM))


def delete_records(connection: Connection, records: Sequence[str] | models.Filter) -> None:
    """Delete records by their ids, or those that a filter selects; absent ones are skipped."""
    these = (
        records if isinstance(records, models.Filter) else models.PointIdsList(points=list(records))
    )
    connection.write(lambda: connection.client.delete(JOURNAL, these, wait=True, ordering=MEDIUM))


def find_shadow_record(connection: Connection, shadow: str) -> ShadowRecord | None:
    """Return what a shadow was made for, or None if this tool did not make it."""
    client = connection.client
    if not connection.call(lambda: client.collection_exists(JOURNAL)):
        return None
    found = connection.call(lambda: client.retrieve(JOURNAL, [record_id("shadow", shadow)]))
    if not found or found[0].payload is None:
        return None
    record = decode_record(found[0].payload, _StoredShadow, f"shadow '{shadow}'")
    return record.source, record.vector, record.size, record.distance


@dataclass(frozen=True, slots=True)
class _StoredShadow:
    source: str
    vector: str
    size: int
    distance: Distance


def decode_record(payload: Mapping[str, Any], form: type[T], what: str, hint: str = DAMAGED) -> T:
    """Validate a record of the journal, which anyone may have changed.

    Args:
        payload: The record.
        form: A dataclass; keys that it does not know are left out.
        what: What the record is of, for the message.
        hint: What to do where it is damaged.

    Raises:
        ArtefactError: Something else has changed it.
    """
    values = {key: value for key, value in payload.items() if value is not None}
    return parse(values, form, f"the record of the {what} in {JOURNAL}", hint)


def record_shadow(connection: Connection, shadow: str, record: ShadowRecord) -> None:
    """Record a shadow before it is created: a crash leaves at most a record."""
    ensure_journal(connection)
    source, vector, size, distance = record
    payload = {
        "shadow": shadow,
        "source": source,
        "vector": vector,
        "size": size,
        "distance": str(distance),
    }
    put_record(connection, record_id("shadow", shadow), payload)


def forget_shadow(connection: Connection, shadow: str) -> None:
    """Remove the record of a shadow that is deleted, or has become the application's collection."""
    client = connection.client
    if connection.call(lambda: client.collection_exists(JOURNAL)):
        # Callers delete a shadow before its record, so that a crash leaves no shadow without one.
        delete_records(connection, [record_id("shadow", shadow)])
