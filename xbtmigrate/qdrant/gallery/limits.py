"""Check what strict mode and the server's machine allow against what a migration needs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xbtmigrate.errors import XbtMigrateError
from xbtmigrate.qdrant.collection.facts import CollectionFacts, strict_mode
from xbtmigrate.qdrant.gallery.provenance import PROVENANCE
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.types import Layout

MIN_LIMITS = {
    "condition_max_size": 50,
    "filter_max_conditions": 4,
    # Ten neighbours and the query's own point (`collection/index_recall.py`).
    "max_query_limit": 11,
    # Each search of a request counts towards this limit; a larger request is never answered.
    "read_rate_limit": 20,
    "search_max_batchsize": 20,
}
"""Limits of strict mode below which the tool's requests are refused: points named in one filter,
conditions of one filter, neighbours per search, reads a minute, searches in one request.
"""
MARK_BYTES = 512
"""Largest size of a mark: sixteen UUIDs share one of 462 bytes, and each point holds it."""
_FLOAT = 4
_KIB = 1024


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """Free space of the machine that holds the database, in bytes; None if unknown.

    Attributes:
        disk: Free on disk; for a server the size of the disk, since it reports no free space.
        memory: Memory that is available; for a server, all of it but what the server uses.
    """

    disk: int | None
    memory: int | None


def find_low_limits(
    connection: Connection, facts: CollectionFacts, layout: Layout, size: int
) -> Iterator[tuple[str, str, int]]:
    """Yield the limits of strict mode that a migration would exceed.

    Args:
        connection: The open Qdrant.
        facts: The collection.
        layout: Where the new vectors go; a shadow has the same limits as its source.
        size: Length of the new vectors.

    Returns:
        Name of each limit, what it is, and what is needed.
    """
    info = connection.call(lambda: connection.client.get_collection(facts.collection))
    strict = strict_mode(info.config)
    needed = MIN_LIMITS | {
        "max_payload_index_count": _indexes(facts, layout),
        "max_collection_vector_size_bytes": _vector_bytes(facts, layout, size),
    }
    for name, least in needed.items():
        limit = getattr(strict, name)
        if limit is not None and limit < least:
            yield name, f"{limit:,}", least


def payload_limit(connection: Connection, facts: CollectionFacts) -> int | None:
    """Return how many bytes of payload strict mode allows a collection; None for no limit."""
    info = connection.call(lambda: connection.client.get_collection(facts.collection))
    return strict_mode(info.config).max_collection_payload_size_bytes


def read_free_space(connection: Connection) -> FreeSpace:
    """Read the free space, which a server returns to keys that may read its telemetry."""
    if connection.embedded:
        folder = Path(connection.url.removeprefix("path:"))
        pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return FreeSpace(shutil.disk_usage(folder).free, pages)
    try:
        told = connection.call(
            lambda: connection.client.http.service_api.telemetry(details_level=1)
        ).result
    except XbtMigrateError:
        return FreeSpace(None, None)
    system = told.app.system if told and told.app else None
    # Telemetry has the machine's total memory: what other processes use is unknown.
    used = told.memory.resident_bytes if told and told.memory else 0
    disk, memory = (system.disk_size, system.ram_size) if system else (None, None)
    return FreeSpace(
        None if disk is None else disk * _KIB,
        None if memory is None else memory * _KIB - used,
    )


def _indexes(facts: CollectionFacts, layout: Layout) -> int:
    """Return the number of payload indexes at the end: the application's and the tool's."""
    # The tool's own are added below, whether or not they exist yet.
    theirs = sum(not name.startswith(PROVENANCE) for name in facts.payload_indexes)
    marks = 0 if facts.unindexed_filters else 2
    hubness = int(layout is Layout.IN_PLACE or not facts.unindexed_filters)
    return theirs + marks + hubness


def _vector_bytes(facts: CollectionFacts, layout: Layout, size: int) -> int:
    # A shadow does not hold the old vector; the source, which has its own limit, does.
    old = facts.size if layout is Layout.IN_PLACE else 0
    others = sum(each for each, _ in facts.dense.values())
    return facts.points * (old + others + size) * _FLOAT
