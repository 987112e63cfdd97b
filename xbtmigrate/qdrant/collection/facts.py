"""Read the facts of a collection that a plan is made from: sizes, vectors, limits. Reads only."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from qdrant_client import models

from xbtmigrate.errors import CollectionError, GateError, UnsupportedError
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.types import Distance, digest_of


@dataclass(frozen=True, slots=True)
class CollectionFacts:
    """The facts of one collection that matter to a migration of one of its vectors.

    Attributes:
        requested: Name the user gave: a collection or an alias.
        collection: Real name of the collection.
        points: Exact number of points.
        with_vector: Exact number of points that have the vector.
        vector: Name of the vector, "" for the unnamed one.
        size: Its length.
        distance: Its distance.
        datatype: Element type it is stored in: float32, float16 or uint8.
        on_disk: Whether its original vectors are kept on disk.
        quantization: Kind of its quantization: scalar, product or binary; "" for none.
        hnsw_m: Edges per node of its index.
        hnsw_ef_construct: Neighbours looked at while its index is built.
        dense: Size and distance of the other dense vectors.
        index_efforts: The same as `hnsw_ef_construct` for each of them.
        datatypes: Element type of every dense vector and multivector.
        sparse: Names of the sparse vectors.
        multi: Names of the multivectors.
        payload_indexes: Field -> type of its index.
        shard_number: Shards; per shard key under custom sharding.
        replication_factor: Copies of each shard.
        custom_sharding: Whether points are placed by shard key.
        shard_keys: The existing shard keys.
        strict_mode: Whether strict mode is on.
        read_limit: Most points one read may return or name there, None for no limit.
        write_limit: Most points one write may hold there, None for no limit.
        reads_per_minute: Most reads a minute there, None for no limit.
        writes_per_minute: Most writes a minute there, None for no limit.
        unindexed_filters: Whether requests may filter on fields without an index.
        status: green, yellow, grey or red.
    """

    requested: str
    collection: str
    points: int
    with_vector: int
    vector: str
    size: int
    distance: Distance
    datatype: str
    on_disk: bool
    quantization: str
    hnsw_m: int
    hnsw_ef_construct: int
    dense: Mapping[str, tuple[int, Distance]]
    index_efforts: Mapping[str, int]
    datatypes: Mapping[str, str]
    sparse: tuple[str, ...]
    multi: tuple[str, ...]
    payload_indexes: Mapping[str, str]
    shard_number: int
    replication_factor: int
    custom_sharding: bool
    shard_keys: tuple[str | int, ...]
    strict_mode: bool
    read_limit: int | None
    write_limit: int | None
    reads_per_minute: int | None
    writes_per_minute: int | None
    unindexed_filters: bool
    status: str

    @property
    def unnamed(self) -> bool:
        """Whether the vector has no name."""
        return self.vector == ""

    @property
    def identity(self) -> str:
        """Digest of what a plan depends on, without counts, which change while it serves."""
        parts = (self.collection, self.vector, str(self.size), self.distance, self.datatype)
        return digest_of(parts)


def inspect(connection: Connection, collection: str, vector: str) -> CollectionFacts:
    """Inspect a collection and the vector that is to be migrated.

    Args:
        connection: The open Qdrant.
        collection: Name of the collection, or of an alias.
        vector: Name of the vector, "" for the unnamed one.

    Raises:
        CollectionError: No such collection or vector, or there are no points.
        UnsupportedError: The vector is sparse or a multivector, or shards are being moved.
        GateError: Strict mode forbids exact requests.
    """
    name = resolve_alias(connection, collection)
    info = connection.call(lambda: connection.client.get_collection(name))
    _refuse_inexact(info, name)
    _refuse_vector(info, name, vector)
    # Counted, because `points_count` of the info is approximate.
    points = _count(connection, name, None)
    if points == 0:
        raise CollectionError(
            f"the collection '{name}' is empty", "there is nothing to migrate: check its name"
        )
    return _gather(
        info,
        (collection, name),
        vector,
        points=points,
        with_vector=_count(connection, name, vector),
        shard_keys=shards_per_key(connection, name),
    )


def _gather(
    info: models.CollectionInfo,
    names: tuple[str, str],
    vector: str,
    *,
    points: int,
    with_vector: int,
    shard_keys: Collection[str | int],
) -> CollectionFacts:
    """Gather the facts that `info` holds, of a collection by its requested and its real name."""
    params = dense_vectors(info)[vector]
    strict = strict_mode(info.config)
    # Multivectors are among them: `_spaces` leaves those out, and `multi` holds them alone.
    others = {each: config for each, config in dense_vectors(info).items() if each != vector}
    return CollectionFacts(
        requested=names[0],
        collection=names[1],
        points=points,
        with_vector=with_vector,
        vector=vector,
        size=params.size,
        distance=Distance(params.distance.value),
        datatype=_datatype(params),
        on_disk=bool(params.on_disk),
        quantization=_quantization(params.quantization_config or info.config.quantization_config),
        hnsw_m=_edges(info, params),
        hnsw_ef_construct=index_effort(info, params),
        dense=dense_spaces(others),
        index_efforts={each: index_effort(info, config) for each, config in others.items()},
        datatypes={each: _datatype(config) for each, config in dense_vectors(info).items()},
        sparse=tuple(sorted(info.config.params.sparse_vectors or {})),
        multi=tuple(each for each, config in others.items() if config.multivector_config),
        payload_indexes={name: each.data_type.value for name, each in info.payload_schema.items()},
        shard_number=info.config.params.shard_number or 1,
        replication_factor=info.config.params.replication_factor or 1,
        custom_sharding=info.config.params.sharding_method is models.ShardingMethod.CUSTOM,
        # Keys are numbers or texts, which Python cannot compare with each other.
        shard_keys=tuple(sorted(shard_keys, key=str)),
        strict_mode=bool(strict.enabled),
        # A server counts each point that is read by id, and each point of a write, towards a limit
        # per minute, so no request may exceed it.
        read_limit=_least(strict.max_query_limit, strict.read_rate_limit),
        write_limit=_least(strict.upsert_max_batchsize, strict.write_rate_limit),
        reads_per_minute=strict.read_rate_limit,
        writes_per_minute=strict.write_rate_limit,
        # Unset means allowed: strict mode forbids only what is false.
        unindexed_filters=False
        not in (strict.unindexed_filtering_retrieve, strict.unindexed_filtering_update),
        status=info.status.value,
    )


def list_collections(connection: Connection) -> list[str]:
    """Return the names of all collections, sorted."""
    return sorted(
        each.name for each in connection.call(connection.client.get_collections).collections
    )


def resolve_alias(connection: Connection, collection: str) -> str:
    """Resolve an alias.

    Raises:
        CollectionError: Neither a collection nor an alias has this name; lists what there is.
    """
    names = list_collections(connection)
    if collection in names:
        return collection
    aliases = {
        each.alias_name: each.collection_name
        for each in connection.call(connection.client.get_aliases).aliases
    }
    if collection in aliases:
        return aliases[collection]
    there = ", ".join([*names, *sorted(aliases)]) or "none at all"
    raise CollectionError(
        f"there is no collection '{collection}' at {connection.url}",
        f"the collections and aliases there: {there}",
    )


def dense_vectors(info: models.CollectionInfo) -> dict[str, models.VectorParams]:
    """Return the dense and multi vectors of a collection by name, "" for the unnamed one."""
    vectors = info.config.params.vectors
    return {"": vectors} if isinstance(vectors, models.VectorParams) else dict(vectors or {})


def index_effort(info: models.CollectionInfo, vector: models.VectorParams) -> int:
    """Return the `ef_construct` that a vector's index is built with."""
    own = vector.hnsw_config and vector.hnsw_config.ef_construct
    return own or info.config.hnsw_config.ef_construct


def _edges(info: models.CollectionInfo, vector: models.VectorParams) -> int:
    own = vector.hnsw_config or models.HnswConfigDiff()
    # A vector's own setting overrides the collection's; m = 0, no index, is a setting too.
    return info.config.hnsw_config.m if own.m is None else own.m


def strict_mode(config: models.CollectionConfig) -> models.StrictModeConfigOutput:
    """Return the limits in force; empty while strict mode is off."""
    strict = config.strict_mode_config
    return strict if strict and strict.enabled else models.StrictModeConfigOutput(enabled=False)


def page_within(connection: Connection, collection: str, page: int) -> int:
    """Return the largest page, at most `page`, that strict mode lets a request read or write."""
    strict = strict_mode(
        connection.call(lambda: connection.client.get_collection(collection)).config
    )
    limits = strict.max_query_limit, strict.read_rate_limit, strict.write_rate_limit
    return min(page, _least(*limits) or page)


def _refuse_inexact(info: models.CollectionInfo, name: str) -> None:
    """Raise if the collection cannot be counted exactly, which every check needs."""
    if strict_mode(info.config).search_allow_exact is False:
        raise GateError(
            f"strict mode of '{name}' forbids exact counts (search_allow_exact is false), which "
            "every check of a migration needs",
            f"allow them until the migration has ended: PATCH /collections/{quote(name, safe='')} "
            '{"strict_mode_config": {"search_allow_exact": true}}',
        )


def _least(*limits: int | None) -> int | None:
    return min((each for each in limits if each is not None), default=None)


def dense_spaces(
    vectors: Mapping[str, models.VectorParams],
) -> dict[str, tuple[int, Distance]]:
    """Return size and distance of the single dense vectors."""
    return {
        name: (params.size, Distance(params.distance.value))
        for name, params in vectors.items()
        if params.multivector_config is None
    }


def _refuse_vector(info: models.CollectionInfo, collection: str, vector: str) -> None:
    vectors = dense_vectors(info)
    if vector in (info.config.params.sparse_vectors or {}):
        raise UnsupportedError(
            f"the vector '{vector}' of '{collection}' is sparse",
            "only dense vectors are made by an embedding model; name a dense one",
        )
    if vector not in vectors:
        names = ", ".join(f"'{each}'" if each else '"" (unnamed)' for each in vectors) or "none"
        shown = f"vector '{vector}'" if vector else "unnamed vector"
        raise CollectionError(
            f"the collection '{collection}' has no {shown}",
            f"its dense vectors: {names}; correct qdrant.vector",
        )
    if vectors[vector].multivector_config is not None:
        raise UnsupportedError(
            f"the vector '{vector}' of '{collection}' is a multivector",
            "only single dense vectors can be migrated; name one of those",
        )


def shards_per_key(connection: Connection, collection: str) -> dict[str | int, int]:
    """Return how many shards each shard key has; empty under automatic sharding.

    Raises:
        UnsupportedError: Shards are being split or merged just now.
    """
    # The embedded mode has no shards.
    if connection.embedded:
        return {}
    cluster = connection.call(lambda: connection.client.collection_cluster_info(collection))
    if cluster.resharding_operations:
        raise UnsupportedError(
            f"the collection '{collection}' is being resharded",
            "wait until resharding has ended: points move between shards meanwhile",
        )
    # A peer lists its own shards as local and the others as remote; a replica may be in both.
    local = {each.shard_id: each.shard_key for each in cluster.local_shards}
    remote = {each.shard_id: each.shard_key for each in cluster.remote_shards}
    keys = [key for key in {**local, **remote}.values() if key is not None]
    return {key: keys.count(key) for key in keys}


def _datatype(vector: models.VectorParams) -> str:
    return vector.datatype.value if vector.datatype else "float32"


def _quantization(config: models.QuantizationConfig | None) -> str:
    return next(iter(config.model_dump(exclude_none=True)), "") if config is not None else ""


def _count(connection: Connection, collection: str, vector: str | None) -> int:
    condition = None
    if vector is not None:
        condition = models.Filter(must=[models.HasVectorCondition(has_vector=vector)])
    return connection.call(
        lambda: connection.client.count(collection, count_filter=condition, exact=True)
    ).count
