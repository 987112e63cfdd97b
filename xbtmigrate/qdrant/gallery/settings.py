"""Compare the settings and indexes of the new vector with those of the old one. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from qdrant_client import models

from xbtmigrate.migration.plan import Target
from xbtmigrate.qdrant.collection.facts import CollectionFacts, dense_vectors, shards_per_key
from xbtmigrate.qdrant.gallery.create import added_settings, shadow_vectors
from xbtmigrate.qdrant.gallery.provenance import PROVENANCE
from xbtmigrate.qdrant.wire.connection import METADATA, Connection
from xbtmigrate.types import Layout

_PARAMS = (
    "shard_number",
    "sharding_method",
    "replication_factor",
    "write_consistency_factor",
    "read_fan_out_factor",
    "on_disk_payload",
    "sparse_vectors",
)


def compare_settings(connection: Connection, facts: CollectionFacts, target: Target) -> list[str]:
    """Compare the settings of the new vector with those that it should have.

    Args:
        connection: The open Qdrant.
        facts: The source.
        target: Where the new vectors are.

    Returns:
        One line for each difference.
    """
    client = connection.client
    source = connection.call(lambda: client.get_collection(facts.collection))
    written = connection.call(lambda: client.get_collection(target.collection))
    if target.layout is Layout.IN_PLACE:
        return list(_vector_in_place(connection, source, facts.vector, target))
    found = [*_collection(connection, source, written), *_indexes(source, written)]
    expected = shadow_vectors(source, facts.vector, target)
    wanted = {"": expected} if isinstance(expected, models.VectorParams) else expected
    found += _unlike("vector settings", wanted, dense_vectors(written))
    if facts.custom_sharding:
        keys = (shards_per_key(connection, facts.collection),)
        found += _unlike("shard keys", *keys, shards_per_key(connection, target.collection))
    return found


def _vector_in_place(
    connection: Connection, info: models.CollectionInfo, old_name: str, target: Target
) -> Iterator[str]:
    """Compare the settings that the tool chose; a name that existed before has the user's."""
    vectors = dense_vectors(info)
    new = vectors.get(target.vector)
    if new is None:
        yield f"the collection has no vector '{target.vector}'"
        return
    wanted = (target.size, str(target.distance))
    yield from _unlike("size and distance", wanted, (new.size, new.distance.value))
    settings = added_settings(connection, info, vectors[old_name])
    if target.creates_vector and settings is not None:
        for name in type(settings).model_fields:
            yield from _unlike(name, getattr(settings, name), getattr(new, name))


def _collection(
    connection: Connection, source: models.CollectionInfo, target: models.CollectionInfo
) -> Iterator[str]:
    for name in _PARAMS:
        wanted, found = (getattr(each.config.params, name) for each in (source, target))
        yield from _unlike(name, wanted, found)
    for name in ("hnsw_config", "quantization_config", "strict_mode_config"):
        yield from _unlike(name, getattr(source.config, name), getattr(target.config, name))
    if connection.at_least(METADATA):
        yield from _unlike("metadata", source.config.metadata, target.config.metadata)


def _indexes(source: models.CollectionInfo, target: models.CollectionInfo) -> Iterator[str]:
    wanted, found = (
        {
            field: (index.data_type, _plain(index.params))
            for field, index in info.payload_schema.items()
            # The tool's own indexes exist only in the target.
            if not field.startswith(PROVENANCE)
        }
        for info in (source, target)
    )
    for field in sorted(wanted.keys() | found.keys()):
        yield from _unlike(f"payload index '{field}'", wanted.get(field), found.get(field))


def _unlike(name: str, wanted: object, found: object) -> list[str]:
    wanted, found = _plain(wanted), _plain(found)
    return [] if wanted == found else [f"{name}: {found} where the source has {wanted}"]


def _plain(value: Any) -> Any:
    """Return a setting as plain values to compare; unset and empty are the same."""
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(mode="json", exclude_none=True))
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()} or None
    return value
