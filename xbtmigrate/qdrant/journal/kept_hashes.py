"""Store a cutover's ledger beside the journal, so that any machine can roll back.

It is stored in parts named by its digest. The record that names the digest is written last, so a
reader finds a whole ledger or an earlier one.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from qdrant_client import models

from xbtmigrate.errors import ArtefactError
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.own_collection import (
    JOURNAL,
    delete_records,
    ensure_journal,
    put_record,
    record_id,
)
from xbtmigrate.types import digest_of

# A part with base64 stays far below the 32 MiB that servers take in one request.
_PART_BYTES = 2**20
_KIND, _PART = "ledger", "ledger_part"


def store_ledger(connection: Connection, migration: str, data: bytes) -> None:
    """Store the file of a ledger, replacing an earlier one."""
    digest = _digest(migration, data)
    # A repeated command need not store it again.
    if _record(connection, migration).get("digest") == digest:
        return
    ensure_journal(connection)
    pieces = [data[at : at + _PART_BYTES] for at in range(0, len(data), _PART_BYTES)]
    common = {"migration": migration, "digest": digest}
    # Parts, then the record that names them, then the old parts: a crash leaves one whole ledger.
    for number, piece in enumerate(pieces):
        text = base64.b64encode(piece).decode()
        put_record(connection, _part_id(digest, number), {"kind": _PART, "data": text, **common})
    described = {"kind": _KIND, "parts": len(pieces), **common}
    put_record(connection, record_id(_KIND, migration), described)
    # By digest, not by number: a killed store may have left parts of a third ledger.
    current = models.FieldCondition(key="digest", match=models.MatchValue(value=digest))
    _delete(connection, migration, [_PART], but=[current])


def fetch_ledger(connection: Connection, migration: str) -> bytes | None:
    """Return the file of the stored ledger; None if there is none.

    Raises:
        ArtefactError: A part is missing or damaged.
    """
    record, client = _record(connection, migration), connection.client
    if not record:
        return None
    pieces = []
    try:
        for number in range(record["parts"]):
            part = [_part_id(record["digest"], number)]
            found = connection.call(lambda part=part: client.retrieve(JOURNAL, part))  # type: ignore[misc]
            pieces.append(base64.b64decode((found[0].payload or {})["data"]))
        data = b"".join(pieces)
        if _digest(migration, data) == record["digest"]:
            return data
        trouble = "its digest differs"
    except (LookupError, ValueError, TypeError) as error:
        trouble = repr(error)
    raise ArtefactError(
        f"the ledger of '{migration}' in {JOURNAL} is incomplete: {trouble}",
        "`xbtmigrate rollback --leave-behind` works without it",
    )


def has_ledger(connection: Connection, migration: str) -> bool:
    """Return whether a ledger is stored."""
    return bool(_record(connection, migration))


def forget_ledger(connection: Connection, migration: str) -> None:
    """Delete the stored ledger, if there is one."""
    if connection.call(lambda: connection.client.collection_exists(JOURNAL)):
        _delete(connection, migration, [_KIND, _PART])


def _digest(migration: str, data: bytes) -> str:
    return digest_of([migration, data])


def _part_id(digest: str, number: int) -> str:
    return record_id(_PART, f"{digest}/{number}")


def _record(connection: Connection, migration: str) -> Mapping[str, Any]:
    client, wanted = connection.client, [record_id(_KIND, migration)]
    if not connection.call(lambda: client.collection_exists(JOURNAL)):
        return {}
    found = connection.call(lambda: client.retrieve(JOURNAL, wanted))
    return (found[0].payload or {}) if found else {}


def _delete(
    connection: Connection,
    migration: str,
    kinds: list[str],
    but: list[models.Condition] | None = None,
) -> None:
    these = models.Filter(
        must=[
            models.FieldCondition(key="migration", match=models.MatchValue(value=migration)),
            models.FieldCondition(key="kind", match=models.MatchAny(any=kinds)),
        ],
        must_not=but,
    )
    delete_records(connection, these)
