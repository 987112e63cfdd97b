"""Qdrant: the few files that serving needs, kept beside the journal for applications elsewhere.

One zip archive in parts, named by its digest; the record that names the digest is written last,
so that a reader finds a whole archive or an earlier one.
"""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdrant_client import models

from xbtmigrate.errors import ArtefactError
from xbtmigrate.qdrant.connection import Connection
from xbtmigrate.qdrant.marks import JOURNAL, ensure_journal, record_id
from xbtmigrate.types import digest_of

PART_BYTES = 2**20
KIND, PART = "serving", "serving_part"


@dataclass(frozen=True, slots=True)
class Published:
    """What is published of one migration.

    Attributes:
        migration: Its name.
        names: What applications may call the collection.
        vector: Name of the old vector.
        digest: Digest of the files.
        parts: Number of parts that the archive is kept in.
    """

    migration: str
    names: Sequence[str]
    vector: str
    digest: str
    parts: int

    @property
    def part_ids(self) -> list[str]:
        """Ids of the points that hold the archive, in order."""
        return [record_id(PART, f"{self.digest}/{number}") for number in range(self.parts)]

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> Published:
        """Read a record."""
        return cls(**{name: payload[name] for name in cls.__dataclass_fields__})


def publish(
    connection: Connection,
    migration: str,
    names: Sequence[str],
    vector: str,
    files: Mapping[str, bytes],
) -> Published:
    """Store files beside the journal, in place of those published before.

    Args:
        connection: The open Qdrant.
        migration: Name of the migration.
        names: What applications may call the collection.
        vector: Name of the old vector.
        files: Relative path -> content.
    """
    content = (part for name, data in sorted(files.items()) for part in (name, data))
    digest = digest_of(content)
    earlier = _present(connection, migration)
    archive = _archive(files)
    pieces = [archive[at : at + PART_BYTES] for at in range(0, len(archive), PART_BYTES)]
    now = Published(migration, list(names), vector, digest, len(pieces))
    if earlier == now:
        return now
    ensure_journal(connection)
    for part_id, piece in zip(now.part_ids, pieces, strict=True):
        data = base64.b64encode(piece).decode()
        _store(connection, part_id, {"kind": PART, "migration": migration, "data": data})
    described = {name: getattr(now, name) for name in Published.__dataclass_fields__}
    _store(connection, record_id(KIND, migration), {"kind": KIND, **described})
    if earlier is not None and earlier.digest != digest:
        gone = models.PointIdsList(points=list(earlier.part_ids))
        connection.write(lambda: connection.client.delete(JOURNAL, gone, wait=True))
    return now


def withdraw(connection: Connection, migration: str) -> None:
    """Delete what is published of a migration, if anything is: the record first, then its parts."""
    published = _present(connection, migration)
    if published is None:
        return
    for points in ([record_id(KIND, migration)], published.part_ids):
        gone = models.PointIdsList(points=list(points))
        connection.write(lambda gone=gone: connection.client.delete(JOURNAL, gone, wait=True))  # type: ignore[misc]


def all_published() -> models.Filter:
    """Select the records of everything that is published."""
    return models.Filter(
        must=[models.FieldCondition(key="kind", match=models.MatchValue(value=KIND))]
    )


def unpack(published: Published, parts: Sequence[models.Record], folder: Path) -> None:
    """Write the files of an archive into a folder.

    Raises:
        ArtefactError: A part is missing or damaged.
    """
    data = {str(part.id): (part.payload or {}).get("data", "") for part in parts}
    try:
        archive = b"".join(base64.b64decode(data[each]) for each in published.part_ids)
        with zipfile.ZipFile(io.BytesIO(archive)) as packed:
            packed.extractall(folder)
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ArtefactError(
            f"what is published of '{published.migration}' in {JOURNAL} is not whole: {error!r}",
            "publish it again with `xbtmigrate publish --yes`",
        ) from error


def fetch(connection: Connection, migration: str, folder: Path) -> bool:
    """Write the files that are published of a migration into a folder; false if there are none.

    Raises:
        ArtefactError: A part is missing or damaged.
    """
    published, client = _present(connection, migration), connection.client
    if published is None:
        return False
    unpack(
        published,
        connection.call(lambda: client.retrieve(JOURNAL, published.part_ids, with_payload=True)),
        folder,
    )
    return True


def _archive(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name), data)
    return packed.getvalue()


def _present(connection: Connection, migration: str) -> Published | None:
    client = connection.client
    if not connection.call(lambda: client.collection_exists(JOURNAL)):
        return None
    found = connection.call(lambda: client.retrieve(JOURNAL, [record_id(KIND, migration)]))
    return Published.of(found[0].payload) if found and found[0].payload else None


def _store(connection: Connection, point_id: str, payload: dict[str, Any]) -> None:
    point = models.PointStruct(id=point_id, vector={}, payload=payload)
    connection.write(lambda: connection.client.upsert(JOURNAL, [point], wait=True))
