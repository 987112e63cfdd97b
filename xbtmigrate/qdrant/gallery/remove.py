"""Remove what the tool has written to points: marks, vectors, copies.

Points are named by id, page by page. Removing twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qdrant_client import models

from xbtmigrate.migration.plan import Target
from xbtmigrate.qdrant.collection.facts import dense_vectors, page_within
from xbtmigrate.qdrant.gallery.in_place import rows_by_key
from xbtmigrate.qdrant.gallery.present_points import write_to_present
from xbtmigrate.qdrant.gallery.provenance import PROVENANCE
from xbtmigrate.qdrant.wire.connection import DONE, DROP_VECTOR, MEDIUM, Connection, make_repeatable
from xbtmigrate.qdrant.wire.points import Page, stored_id
from xbtmigrate.qdrant.wire.reader import LISTED, Reader
from xbtmigrate.qdrant.wire.writer import Writer
from xbtmigrate.types import Layout, PointId

_PAGE = 256


def distrust(connection: Connection, target: Target, ids: Sequence[PointId]) -> None:
    """Make some points due again: remove their marks in place, or their copies in a shadow.

    Args:
        connection: The open Qdrant.
        target: The layout.
        ids: The points; absent ones are skipped.
    """
    reader = _reader(connection, target.collection)
    writer = Writer(connection, target.collection)
    for page in reader.select(ids, after=None, payload=False, vectors=False):
        for key, members in _by_key(page):
            # A source point without a copy is due.
            if target.layout is Layout.SHADOW:
                writer.delete(members, key)
            else:
                remove_marks(connection, target.collection, members, key)


def remove_marks(
    connection: Connection, collection: str, ids: Sequence[PointId], key: models.ShardKey | None
) -> None:
    """Remove the tool's payload key from points that live under one shard key."""
    _remove(connection, collection, ids, key, vectors=(), marks=True)


def strip(
    connection: Connection,
    collection: str,
    vectors: Sequence[str],
    on_page: Callable[[int], None],
    *,
    marks: bool = True,
) -> int:
    """Remove vectors and the tool's payload key from every point.

    Args:
        connection: The open Qdrant.
        collection: Real name of the collection.
        vectors: Names of the vectors; none to take the payload key alone.
        on_page: Called with the number of points done.
        marks: Whether to take the payload key.

    Returns:
        Number of points.
    """
    done = 0
    for page in _reader(connection, collection).scroll(payload=False, vectors=False):
        for key, members in _by_key(page):
            _remove(connection, collection, members, key, vectors=vectors, marks=marks)
        done += len(page)
        on_page(done)
    return done


def drop_vector(connection: Connection, collection: str, vector: str) -> bool:
    """Remove a vector's name from a collection, with all its values, if the server can.

    Returns:
        Whether the name is gone; else its values have to be deleted point by point.
    """
    client = connection.client
    if not connection.at_least(DROP_VECTOR):
        return False
    # A killed run may have removed the name already.
    if vector in dense_vectors(connection.call(lambda: client.get_collection(collection))):
        connection.write(
            make_repeatable(
                lambda: client.delete_vector_name(collection, vector),
                lambda: (
                    None if vector in dense_vectors(client.get_collection(collection)) else DONE
                ),
            )
        )
    return True


def drop_indexes(
    connection: Connection, collection: str, *, below: str = PROVENANCE, but: str = ""
) -> None:
    """Delete the payload indexes on the tool's own key.

    Args:
        connection: The open Qdrant.
        collection: Real name of the collection.
        below: How the names of their fields begin.
        but: The field whose index stays.
    """
    client = connection.client
    info = connection.call(lambda: client.get_collection(collection))
    for field in (each for each in info.payload_schema if each.startswith(below) and each != but):
        connection.write(
            lambda field=field: client.delete_payload_index(collection, field, wait=True)  # type: ignore[misc]
        )


def drop_collection(connection: Connection, collection: str) -> bool:
    """Delete a collection if it exists."""
    client = connection.client
    if not connection.call(lambda: client.collection_exists(collection)):
        return False
    # Deleting twice is harmless: a server answers false for a collection that is gone.
    connection.call(lambda: client.delete_collection(collection))
    return True


def _reader(connection: Connection, collection: str) -> Reader:
    listed = page_within(connection, collection, LISTED)
    return Reader(connection, collection, min(_PAGE, listed), listed=listed)


def _remove(
    connection: Connection,
    collection: str,
    ids: Sequence[PointId],
    key: models.ShardKey | None,
    *,
    vectors: Sequence[str],
    marks: bool,
) -> None:
    """Remove vectors and, if asked, marks from those of some points that exist."""
    client = connection.client

    def send(points: Sequence[PointId]) -> None:
        stored: list[models.ExtendedPointId] = [stored_id(each) for each in points]
        # Vectors first: after a crash, new vectors without marks would count as the user's own.
        operations: list[models.UpdateOperation] = []
        if vectors:
            gone = models.DeleteVectors(vector=list(vectors), points=stored, shard_key=key)
            operations.append(models.DeleteVectorsOperation(delete_vectors=gone))
        if marks:
            keys = models.DeletePayload(keys=[PROVENANCE], points=stored, shard_key=key)
            operations.append(models.DeletePayloadOperation(delete_payload=keys))
        connection.write(
            lambda: client.batch_update_points(collection, operations, wait=True, ordering=MEDIUM)
        )

    write_to_present(Reader(connection, collection, len(ids), key), ids, send)


def _by_key(page: Page) -> list[tuple[models.ShardKey | None, list[PointId]]]:
    keys = dict(zip(page.ids, page.shard_keys, strict=True))
    grouped = rows_by_key(page.ids, keys).items()
    return [(key, [page.ids[row] for row in rows]) for key, rows in grouped]
