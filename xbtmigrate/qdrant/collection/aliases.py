"""Read the aliases of a server, and move one to another collection in a single step."""

from __future__ import annotations

from collections.abc import Sequence

from qdrant_client import models

from xbtmigrate.qdrant.wire.connection import Connection


def aliases(connection: Connection) -> dict[str, str]:
    """Return every alias and the real name of its collection."""
    found = connection.call(connection.client.get_aliases).aliases
    return {each.alias_name: each.collection_name for each in found}


def move_alias(connection: Connection, alias: str, collection: str) -> None:
    """Let an alias name another collection; a server does it in one step, so no search misses.

    Calling it again changes nothing.
    """
    changes: Sequence[models.AliasOperations] = [
        models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)),
        models.CreateAliasOperation(
            create_alias=models.CreateAlias(collection_name=collection, alias_name=alias)
        ),
    ]
    connection.call(lambda: connection.client.update_collection_aliases(changes))
