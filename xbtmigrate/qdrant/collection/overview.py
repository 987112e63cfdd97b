"""Read the vectors and some payloads of a collection, for `init`. Reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xbtmigrate.qdrant.collection.facts import (
    dense_spaces,
    dense_vectors,
    resolve_alias,
    strict_mode,
)
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.types import Distance


@dataclass(frozen=True, slots=True)
class Overview:
    """The vectors and some payloads of a collection, for `init` to choose from.

    Attributes:
        vectors: Name -> size and distance of each single dense vector, "" for the unnamed one.
        payloads: Payloads of some points.
    """

    vectors: Mapping[str, tuple[int, Distance]]
    payloads: Sequence[Mapping[str, Any]]


def read_overview(connection: Connection, collection: str, sample: int = 64) -> Overview:
    """List the dense vectors of a collection and read some payloads.

    Raises:
        CollectionError: There is no such collection.
    """
    client, name = connection.client, resolve_alias(connection, collection)
    info = connection.call(lambda: client.get_collection(name))
    limit = min(sample, strict_mode(info.config).max_query_limit or sample)
    records, _ = connection.call(
        lambda: client.scroll(name, limit=limit, with_payload=True, with_vectors=False)
    )
    return Overview(
        vectors=dense_spaces(dense_vectors(info)),
        payloads=[record.payload or {} for record in records],
    )
