"""Qdrant: takes back what the tool put on points: marks, vectors, copies.

Points are named by id, page by page: strict mode may forbid to filter by a key without an index,
and whatever is done twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from qdrant_client import models

from xbtmigrate.qdrant.connection import Connection
from xbtmigrate.qdrant.gallery import rows_by_key
from xbtmigrate.qdrant.layouts import LayoutChoice
from xbtmigrate.qdrant.pages import Page, stored_id
from xbtmigrate.qdrant.provenance import PROVENANCE
from xbtmigrate.qdrant.routes import MEDIUM
from xbtmigrate.qdrant.scan import Reader
from xbtmigrate.qdrant.writing import Writer
from xbtmigrate.types import Layout, PointId

_PAGE = 50


def distrust(connection: Connection, choice: LayoutChoice, ids: Sequence[PointId]) -> None:
    """Make some points count as not done: take their marks in place, or their copies in a shadow.

    Args:
        connection: The open Qdrant.
        choice: The layout.
        ids: The points; absent ones are passed over.
    """
    reader = Reader(connection, choice.collection, _PAGE)
    writer = Writer(connection, choice.collection)
    for page in reader.select(ids, after=None, payload=False, vectors=False):
        for key, members in _by_key(page):
            if choice.layout is Layout.SHADOW:
                writer.delete(members, key)
            else:
                remove_marks(connection, choice.collection, members, key)


def remove_marks(
    connection: Connection, collection: str, ids: Sequence[PointId], key: models.ShardKey | None
) -> None:
    """Take the tool's payload key from points that live under one shard key."""
    points = models.PointIdsList(points=[stored_id(each) for each in ids])
    connection.write(
        lambda: connection.client.delete_payload(
            collection, [PROVENANCE], points, wait=True, ordering=MEDIUM, shard_key_selector=key
        )
    )


def _by_key(page: Page) -> list[tuple[models.ShardKey | None, list[PointId]]]:
    keys = dict(zip(page.ids, page.shard_keys, strict=True))
    grouped = rows_by_key(page.ids, keys).items()
    return [(key, [page.ids[row] for row in rows]) for key, rows in grouped]
