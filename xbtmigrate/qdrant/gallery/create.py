"""Add the new vector in place, or create a shadow with the settings of its source.

Every step first checks what exists, so a run that was killed in between continues from there.
"""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel
from qdrant_client import models

from xbtmigrate.migration.plan import Target
from xbtmigrate.qdrant.collection.facts import (
    CollectionFacts,
    dense_vectors,
    index_effort,
    shards_per_key,
)
from xbtmigrate.qdrant.gallery.provenance import PROVENANCE
from xbtmigrate.qdrant.wire.connection import DONE, METADATA, Connection, make_repeatable
from xbtmigrate.qdrant.wire.own_collection import record_shadow
from xbtmigrate.types import Layout

M = TypeVar("M", bound=BaseModel)

EF_CONSTRUCT = 256
"""Least `ef_construct` of a new vector: at Qdrant's default of 100 the index of a gallery that
mixes projected and true vectors misses many of the true ones."""


def prepare(connection: Connection, facts: CollectionFacts, target: Target) -> None:
    """Create the place of the new vectors; calling it again changes nothing.

    Raises:
        XbtMigrateError: The server refuses.
    """
    if target.layout is Layout.SHADOW:
        _prepare_shadow(connection, facts, target)
    else:
        _add_vector(connection, facts, target)
    if not facts.unindexed_filters:
        # Exact counts filter on these two keys, and strict mode allows that with an index only.
        for key in ("plan", "kind"):
            create_index(connection, target.collection, f"{PROVENANCE}.{key}", _KEYWORD)


_KEYWORD = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD)


def _add_vector(connection: Connection, facts: CollectionFacts, target: Target) -> None:
    client, name = connection.client, facts.collection
    info = connection.call(lambda: client.get_collection(name))
    vectors = dense_vectors(info)
    old = vectors[facts.vector]
    if target.vector not in vectors:
        config = models.DenseVectorConfig(
            size=target.size,
            distance=models.Distance(str(target.distance)),
            datatype=_as(models.VectorStorageDatatype, old),
        )
        wrapped = models.DenseVectorNameConfig(dense=config)
        connection.write(
            make_repeatable(
                lambda: client.create_vector_name(name, target.vector, wrapped),
                # Repeating creation after a lost answer would be refused, so check for the name
                # first.
                lambda: (
                    DONE if target.vector in dense_vectors(client.get_collection(name)) else None
                ),
            )
        )
    settings = added_settings(connection, info, old)
    if target.creates_vector and settings is not None:
        # Sent even if the name exists: an earlier run may have been killed before this.
        connection.call(
            lambda: client.update_collection(name, vectors_config={target.vector: settings})
        )


def added_settings(
    connection: Connection, info: models.CollectionInfo, old: models.VectorParams
) -> models.VectorParamsDiff | None:
    """Return the settings of a vector that is added in place.

    None in the embedded mode, which keeps no settings and searches without an index.
    """
    if connection.embedded:
        return None
    return models.VectorParamsDiff(
        hnsw_config=new_index(info, old),
        quantization_config=old.quantization_config,
        on_disk=old.on_disk,
        memory=old.memory,
    )


def new_index(info: models.CollectionInfo, old: models.VectorParams) -> models.HnswConfigDiff:
    """Return the old vector's index settings, with an `ef_construct` for a mixed gallery."""
    settings = old.hnsw_config or models.HnswConfigDiff()
    # Only ef_construct is raised: it costs time once, while m would always cost memory.
    effort = max(EF_CONSTRUCT, index_effort(info, old))
    return settings.model_copy(update={"ef_construct": effort})


def _as(
    datatypes: type[models.VectorStorageDatatype], old: models.VectorParams
) -> models.VectorStorageDatatype | None:
    """Keep half precision; uint8 cannot hold the vectors of an embedding model."""
    return datatypes.FLOAT16 if old.datatype is models.Datatype.FLOAT16 else None


def _prepare_shadow(connection: Connection, facts: CollectionFacts, target: Target) -> None:
    client = connection.client
    # Record, then create: a shadow without its record would look like the user's.
    if not connection.call(lambda: client.collection_exists(target.collection)):
        record_shadow(
            connection,
            target.collection,
            (facts.collection, target.vector, target.size, target.distance),
        )
        _create_shadow(connection, facts, target)
    if facts.custom_sharding:
        _copy_shard_keys(connection, facts.collection, target.collection)
    source = connection.call(lambda: client.get_collection(facts.collection))
    for field, index in source.payload_schema.items():
        # A source that was once a shadow may still have indexes on the tool's key.
        if not field.startswith(PROVENANCE):
            schema = index.params or models.PayloadSchemaType(index.data_type.value)
            create_index(connection, target.collection, field, schema)


def create_collection(connection: Connection, name: str, **settings: Any) -> None:
    """Create a collection if it does not exist; `settings` are the client library's."""
    client = connection.client
    connection.call(
        make_repeatable(
            lambda: client.create_collection(name, **settings),
            lambda: client.collection_exists(name) or None,
        )
    )


def _create_shadow(connection: Connection, facts: CollectionFacts, target: Target) -> None:
    client = connection.client
    info = connection.call(lambda: client.get_collection(facts.collection))
    config, params = info.config, info.config.params
    strict = _copied(config.strict_mode_config, models.StrictModeConfig)
    create_collection(
        connection,
        target.collection,
        vectors_config=shadow_vectors(info, facts.vector, target),
        sparse_vectors_config=params.sparse_vectors,
        shard_number=params.shard_number,
        sharding_method=params.sharding_method,
        replication_factor=params.replication_factor,
        write_consistency_factor=params.write_consistency_factor,
        on_disk_payload=params.on_disk_payload,
        payload=params.payload,
        id_tracker=params.id_tracker,
        hnsw_config=_copied(config.hnsw_config, models.HnswConfigDiff),
        optimizers_config=_copied(config.optimizer_config, models.OptimizersConfigDiff),
        wal_config=_copied(config.wal_config, models.WalConfigDiff),
        quantization_config=config.quantization_config,
        strict_mode_config=strict,
        # Servers before 1.16 have no metadata.
        metadata=config.metadata if connection.at_least(METADATA) else None,
    )
    # These two cannot be set when a collection is created, only updated afterwards.
    read_fan_out = models.CollectionParamsDiff(
        read_fan_out_factor=params.read_fan_out_factor,
        read_fan_out_delay_ms=params.read_fan_out_delay_ms,
    )
    if read_fan_out.model_dump(exclude_none=True):
        connection.call(
            lambda: client.update_collection(target.collection, collection_params=read_fan_out)
        )


def shadow_vectors(
    info: models.CollectionInfo, migrated: str, target: Target
) -> models.VectorParams | dict[str, models.VectorParams]:
    """Replace the migrated vector by the new one, which inherits all but `new_index`."""
    vectors = dense_vectors(info)
    old = vectors.pop(migrated)
    # uint8 becomes float32: it cannot hold the vectors of an embedding model.
    half = old.datatype is models.Datatype.FLOAT16
    new = old.model_copy(
        update={
            "size": target.size,
            "distance": models.Distance(str(target.distance)),
            "datatype": models.Datatype.FLOAT16 if half else None,
            "hnsw_config": new_index(info, old),
        }
    )
    others = {name: params for name, params in vectors.items() if name != target.vector}
    if target.vector == "" and not others:
        return new
    return {**others, target.vector: new}


def _copy_shard_keys(connection: Connection, source: str, shadow: str) -> None:
    client, there = connection.client, shards_per_key(connection, shadow)
    for key, number in shards_per_key(connection, source).items():
        if key not in there:
            connection.call(
                make_repeatable(
                    partial(client.create_shard_key, shadow, key, shards_number=number),
                    lambda key=key: key in shards_per_key(connection, shadow) or None,  # type: ignore[misc]
                )
            )


def create_index(
    connection: Connection,
    collection: str,
    field: str,
    schema: models.PayloadSchemaType | models.PayloadSchemaParams,
) -> None:
    """Index a field of the payload, unless it already has this index."""
    client = connection.client
    # A server at strict mode's number of indexes refuses even one that exists.
    found = connection.call(lambda: client.get_collection(collection)).payload_schema.get(field)
    if found and (found.params or models.PayloadSchemaType(found.data_type.value)) == schema:
        return
    connection.write(
        lambda: client.create_payload_index(collection, field, field_schema=schema, wait=True)
    )


def _copied(source: BaseModel | None, kind: type[M]) -> M | None:
    """Turn a reported configuration into one that can be set, leaving out read-only keys."""
    if source is None:
        return None
    values = source.model_dump(exclude_none=True)
    return kind(**{key: value for key, value in values.items() if key in kind.model_fields})
