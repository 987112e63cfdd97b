"""Take a snapshot of a collection before anything is deleted for good."""

from __future__ import annotations

from qdrant_client import models

from xbtmigrate.errors import UnsupportedError
from xbtmigrate.qdrant.wire.connection import Connection, make_repeatable


def take_snapshot(connection: Connection, collection: str) -> str:
    """Store a snapshot of a collection on the server.

    Returns:
        Its name, under `snapshots/<collection>/` of the server's storage.

    Raises:
        UnsupportedError: The embedded mode has none.
        XbtMigrateError: The server cannot store it.
    """
    client = connection.client
    if connection.embedded:
        raise UnsupportedError(
            "the embedded mode has no snapshots",
            "copy the database's folder while nothing has it open, then give --no-snapshot",
        )
    # After a lost answer the snapshot's name is unknown: it is the one that was not there before.
    before = {each.name for each in connection.call(lambda: client.list_snapshots(collection))}

    def stored() -> models.SnapshotDescription | None:
        fresh = (each for each in client.list_snapshots(collection) if each.name not in before)
        return next(fresh, None)

    made = connection.call(
        make_repeatable(lambda: client.create_snapshot(collection, wait=True), stored)
    )
    if made is None:
        raise UnsupportedError(
            f"the server made no snapshot of '{collection}'", "check its disk and its log"
        )
    return made.name
