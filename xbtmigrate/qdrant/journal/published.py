"""Publish the few files that serving needs beside the journal, for applications elsewhere.

One zip archive in parts, named by its digest; the record that names the digest is written last,
so that a reader finds a whole archive or an earlier one.
"""

from __future__ import annotations

import base64
import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdrant_client import models

from xbtmigrate.errors import ArtefactError
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.own_collection import (
    JOURNAL,
    decode_record,
    delete_records,
    ensure_journal,
    put_record,
    record_id,
)
from xbtmigrate.types import digest_of

PART_BYTES = 2**20
KIND, PART = "serving", "serving_part"
MAX_PARTS = 1024
"""Most parts of an archive."""
MIN_ROOM, MAX_GROWTH = 64 * 2**20, 4
"""Limits of an unpacked archive: bytes, or a multiple of its size, as vectors hardly shrink."""
_UNPACKING = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
"""Errors of reading a damaged archive; the last two for an unknown method and a password."""
_AGAIN = "publish it again with `xbtmigrate publish --yes`"


@dataclass(frozen=True, slots=True)
class Published:
    """The published files of one migration.

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
        """Read a record.

        Raises:
            ArtefactError: Something else has changed it.
        """
        what = f"files published of '{payload.get('migration', '?')}'"
        found = decode_record(payload, cls, what, _AGAIN)
        # A damaged number must not make a reader build millions of ids.
        if not 0 < found.parts <= MAX_PARTS:
            raise ArtefactError(f"the record of the {what} in {JOURNAL} is damaged: parts", _AGAIN)
        return found


def publish(
    connection: Connection,
    migration: str,
    names: Sequence[str],
    vector: str,
    files: Mapping[str, bytes],
) -> Published:
    """Store files beside the journal, replacing those published before.

    Args:
        connection: The open Qdrant.
        migration: Name of the migration.
        names: What applications may call the collection.
        vector: Name of the old vector.
        files: Relative path -> content.
    """
    digest = _digest(files)
    try:
        earlier = _present(connection, migration)
    except ArtefactError:  # a damaged record is written over
        earlier = None
    archive = _archive(files)
    pieces = [archive[at : at + PART_BYTES] for at in range(0, len(archive), PART_BYTES)]
    now = Published(migration, list(names), vector, digest, len(pieces))
    if earlier == now:
        return now
    ensure_journal(connection)
    # Parts first and the record last, so that a reader finds either archive whole.
    for part_id, piece in zip(now.part_ids, pieces, strict=True):
        data = base64.b64encode(piece).decode()
        put_record(connection, part_id, {"kind": PART, "migration": migration, "data": data})
    described = {name: getattr(now, name) for name in Published.__dataclass_fields__}
    put_record(connection, record_id(KIND, migration), {"kind": KIND, **described})
    if earlier is not None and earlier.digest != digest:
        # A reader with the earlier record may miss a part from now on, and gets an error, not a
        # mixture.
        delete_records(connection, earlier.part_ids)
    return now


def withdraw(connection: Connection, migration: str) -> None:
    """Delete the published files of a migration, if any: the record first, then its parts."""
    published = _present(connection, migration)
    if published is None:
        return
    # After a crash in between, parts without a record do no harm; a record without parts would.
    for points in ([record_id(KIND, migration)], published.part_ids):
        delete_records(connection, points)


def select_published(collection: str) -> models.Filter:
    """Select the records of published files of a collection, by any of its names."""
    wanted = {"kind": KIND, "names": collection}
    return models.Filter(
        must=[
            models.FieldCondition(key=key, match=models.MatchValue(value=value))
            for key, value in wanted.items()
        ]
    )


def unpack(published: Published, parts: Sequence[models.Record], folder: Path) -> None:
    """Write the files of an archive into a folder.

    Raises:
        ArtefactError: A part is missing or damaged.
    """
    data = {str(part.id): (part.payload or {}).get("data", "") for part in parts}
    try:
        archive = b"".join(base64.b64decode(data[each]) for each in published.part_ids)
        files = _unpacked(archive)
    except (KeyError, TypeError, ValueError, *_UNPACKING) as error:
        raise _not_whole(published, repr(error)) from error
    # Checked before the first file is written.
    if _digest(files) != published.digest:
        raise _not_whole(published, "its files do not have the digest of its record")
    # A name such as "../x" would be written outside the folder (zip slip), and anyone who can write
    # to Qdrant can publish.
    places = {(folder / name).resolve(): content for name, content in files.items()}
    if not all(place.is_relative_to(folder.resolve()) for place in places):
        raise _not_whole(published, "it names files outside the folder")
    for place, content in places.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


def fetch(connection: Connection, migration: str, folder: Path) -> bool:
    """Write the published files of a migration into a folder; false if there are none.

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


def _digest(files: Mapping[str, bytes]) -> str:
    return digest_of(part for name, data in sorted(files.items()) for part in (name, data))


def _unpacked(archive: bytes) -> dict[str, bytes]:
    """Read the files of an archive without trusting the sizes that it declares.

    Raises:
        ValueError: It unpacks to far more than its own size.
    """
    files: dict[str, bytes] = {}
    left = room = max(MIN_ROOM, MAX_GROWTH * len(archive))
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        for entry in packed.infolist():
            with packed.open(entry) as file:
                # One byte more than allowed shows an archive that is too large without unpacking
                # it.
                files[entry.filename] = file.read(left + 1)
            left -= len(files[entry.filename])
            if left < 0:
                raise ValueError(f"it unpacks to more than {room} bytes")
    return files


def _not_whole(published: Published, why: str) -> ArtefactError:
    return ArtefactError(
        f"the published files of '{published.migration}' in {JOURNAL} are incomplete: {why}", _AGAIN
    )


def _archive(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(files.items()):
            # Without a date, equal files make an equal archive.
            archive.writestr(zipfile.ZipInfo(name), data)
    return packed.getvalue()


def _present(connection: Connection, migration: str) -> Published | None:
    client = connection.client
    if not connection.call(lambda: client.collection_exists(JOURNAL)):
        return None
    found = connection.call(lambda: client.retrieve(JOURNAL, [record_id(KIND, migration)]))
    return Published.of(found[0].payload) if found and found[0].payload else None
