"""Read the aliases of a server, and move one to another collection in a single step."""

from __future__ import annotations

from collections.abc import Sequence

from qdrant_client import models

from xbtmigrate.qdrant.wire.connection import Connection


def list_aliases(connection: Connection) -> dict[str, str]:
    """Return every alias and the real name of its collection."""
    found = connection.call(connection.client.get_aliases).aliases
    return {each.alias_name: each.collection_name for each in found}


def move_alias(connection: Connection, alias: str, collection: str) -> None:
    """Point an alias to another collection in one step, so that no search fails.

    Calling it again changes nothing.
    """
    # One request with both changes is atomic; with two, searches between them would fail.
    changes: Sequence[models.AliasOperations] = [
        models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)),
        models.CreateAliasOperation(
            create_alias=models.CreateAlias(collection_name=collection, alias_name=alias)
        ),
    ]
    connection.call(lambda: connection.client.update_collection_aliases(changes))
