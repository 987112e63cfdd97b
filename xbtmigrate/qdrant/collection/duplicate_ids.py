"""Refuse ids that occur under several shard keys. Reads only.

A scroll over all shard keys returns one of them, a request for the id another, so a vector made
from one would be written to the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from itertools import pairwise

from qdrant_client import models

from xbtmigrate.errors import CollectionError
from xbtmigrate.qdrant.collection.facts import CollectionFacts
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.points import StoredId, stored_id
from xbtmigrate.qdrant.wire.reader import Reader

_PAGE = 4096


def refuse_duplicate_ids(connection: Connection, facts: CollectionFacts) -> None:
    """Check that every id lives under one shard key; reads all ids where keys exist.

    A point that is being moved, written under one key and then deleted under the other, may be
    refused: run the same command again.

    Raises:
        CollectionError: An id lives under several.
    """
    if len(facts.shard_keys) < 2:
        return
    # Pages of ids alone are small, so they may be long.
    page = min(_PAGE, facts.read_limit or _PAGE)
    readers = [Reader(connection, facts.collection, page, key) for key in facts.shard_keys]
    # Each key's ids come sorted, so merging them brings equal ids together in constant memory.
    for (_, one), (_, other) in pairwise(merge(*map(_ranked, readers))):
        # One of the two may have been deleted since its page was read.
        if one == other and len(keys := _keys_of(one, readers)) > 1:
            raise CollectionError(
                f"point {one} of '{facts.collection}' exists under more than one shard key: "
                + ", ".join(map(repr, keys)),
                "give each point a unique id, or delete all but one of them under their "
                "shard keys: they cannot be told apart by id",
            )


def _ranked(reader: Reader) -> Iterator[tuple[bool, StoredId]]:
    """Yield ids in the order of Qdrant: numbers before UUIDs."""
    for page in reader.scroll(payload=False, vectors=False):
        for each in map(stored_id, page.ids):
            yield isinstance(each, str), each


def _keys_of(point: StoredId, readers: list[Reader]) -> list[models.ShardKey | None]:
    return [reader.key for reader in readers if len(reader.retrieve([str(point)]))]
