"""A shadow is its source in everything but the migrated vector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from qdrant_client import models

from tests.support.collections import NEW, TEXT, fresh_name, vectors
from tests.support.qdrant_server import free_port, running_server
from xbtmigrate.errors import CollectionError, XbtMigrateError
from xbtmigrate.migration.plan import Target
from xbtmigrate.protocols import Gallery
from xbtmigrate.qdrant.collection.duplicate_ids import refuse_duplicate_ids
from xbtmigrate.qdrant.collection.facts import CollectionFacts, inspect, shards_per_key
from xbtmigrate.qdrant.gallery.create import EF_CONSTRUCT, prepare
from xbtmigrate.qdrant.gallery.layout import choose_layout
from xbtmigrate.qdrant.gallery.open_gallery import open_gallery
from xbtmigrate.qdrant.wire.connect import connect
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.own_collection import record_shadow
from xbtmigrate.qdrant.wire.points import Page
from xbtmigrate.qdrant.wire.reader import Reader
from xbtmigrate.testing.galleries import table_of, to_write
from xbtmigrate.types import Kind, Layout, vectors_of

pytestmark = pytest.mark.server

IDS = ["1", "2", "18446744073709551615", "0b8f0f6e-0f0e-4c63-8f0a-2f6f8a3f7e11"]
DOT = models.Distance.DOT
INT8 = models.ScalarQuantization(
    scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.98)
)


def create_rich(connection: Connection, shard_keys: Mapping[str | int, int] | None = None) -> str:
    """Create a collection with something set everywhere, and shard keys with so many shards."""
    name = fresh_name()
    multi = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    connection.client.create_collection(
        name,
        vectors_config={
            "old": models.VectorParams(
                size=4,
                distance=DOT,
                hnsw_config=models.HnswConfigDiff(m=7, ef_construct=55),
                quantization_config=INT8,
                on_disk=True,
            ),
            "other": models.VectorParams(size=2, distance=models.Distance.MANHATTAN),
            "multi": models.VectorParams(size=2, distance=DOT, multivector_config=multi),
        },
        sparse_vectors_config={
            "words": models.SparseVectorParams(
                index=models.SparseIndexParams(on_disk=True), modifier=models.Modifier.IDF
            )
        },
        hnsw_config=models.HnswConfigDiff(m=9, ef_construct=66, full_scan_threshold=5000),
        optimizers_config=models.OptimizersConfigDiff(
            deleted_threshold=0.3, indexing_threshold=15000, flush_interval_sec=4
        ),
        wal_config=models.WalConfigDiff(wal_capacity_mb=2, wal_segments_ahead=1),
        quantization_config=models.BinaryQuantization(binary=models.BinaryQuantizationConfig()),
        strict_mode_config=models.StrictModeConfig(enabled=True, max_query_limit=100),
        on_disk_payload=False,
        shard_number=2,
        write_consistency_factor=1,
        metadata={"owner": "search"},
        sharding_method=models.ShardingMethod.CUSTOM if shard_keys else None,
    )
    for key, number in (shard_keys or {}).items():
        connection.client.create_shard_key(name, key, shards_number=number)
    tokenizer = models.TextIndexParams(
        type=models.TextIndexType.TEXT, tokenizer=models.TokenizerType.PREFIX, min_token_len=3
    )
    principal = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
    for field, schema in {"text": tokenizer, "tenant": principal, "n": "integer"}.items():
        connection.client.create_payload_index(name, field, field_schema=schema)
    return name


def point(point_id: str, row: int) -> models.PointStruct:
    return models.PointStruct(
        id=int(point_id) if point_id.isdecimal() else point_id,
        vector={
            "old": [row, 1.0, 2.0, 3.0],
            "other": [row, 0.5],
            "multi": [[row, 1.0], [2.0, 3.0]],
            "words": models.SparseVector(indices=[row, 90], values=[0.5, 1.5]),
        },
        payload={"text": f"text {point_id}", "tenant": "t", "n": row, "deep": {"list": [1, None]}},
    )


def migrated(connection: Connection, name: str) -> tuple[CollectionFacts, Target, Gallery]:
    facts = inspect(connection, name, "old")
    choice = choose_layout(facts, connection, Layout.SHADOW, NEW)
    prepare(connection, facts, choice)
    gallery = open_gallery(connection, facts, choice, TEXT, "plan")
    ids = table_of(gallery.read({"source"})).column("id").to_pylist()
    gallery.write(to_write(ids, [f"text {each}" for each in ids], 1.0), Kind.ENCODED)
    return facts, choice, gallery


def configuration(connection: Connection, name: str) -> dict[str, Any]:
    info = connection.client.get_collection(name)
    config = info.config.model_dump()
    config["payload_schema"] = {
        field: (index.data_type, index.params) for field, index in info.payload_schema.items()
    }
    return config


def contents(connection: Connection, name: str, migrated_vector: str) -> dict[Any, Any]:
    records, _ = connection.client.scroll(name, limit=100, with_vectors=True)
    found = {}
    for record in records:
        assert isinstance(record.vector, dict)
        record.vector.pop(migrated_vector, None)
        payload = {key: value for key, value in record.payload.items() if key != "_xbtmigrate"}
        found[record.id] = (payload, record.vector, record.shard_key)
    return found


@pytest.mark.parametrize("db", ["server_db", "grpc_db"])
def test_everything_is_copied(db: str, request: pytest.FixtureRequest) -> None:
    connection: Connection = request.getfixturevalue(db)
    name = create_rich(connection)
    connection.client.upsert(name, [point(each, row) for row, each in enumerate(IDS)])
    _, choice, gallery = migrated(connection, name)

    source, shadow = (configuration(connection, each) for each in (name, choice.collection))
    old = source["params"]["vectors"].pop("old")
    new = shadow["params"]["vectors"].pop("new")
    assert source == shadow
    assert (new.pop("size"), new.pop("distance")) == (3, DOT)
    assert new.pop("hnsw_config") == old["hnsw_config"] | {"ef_construct": EF_CONSTRUCT}
    assert {key: old[key] for key in new} == new
    assert contents(connection, name, "old") == contents(connection, choice.collection, "new")
    assert gallery.count(Kind.ENCODED) == gallery.count() == len(IDS)


def test_facts_of_a_rich_collection(server_db: Connection) -> None:
    name = create_rich(server_db)
    server_db.client.upsert(name, [point(each, row) for row, each in enumerate(IDS)])
    facts = inspect(server_db, name, "old")
    assert (facts.shard_number, facts.replication_factor, facts.shard_keys) == (2, 1, ())
    assert (facts.quantization, facts.on_disk) == ("scalar", True)
    assert (facts.hnsw_m, facts.hnsw_ef_construct) == (7, 55)
    assert facts.payload_indexes == {"text": "text", "tenant": "keyword", "n": "integer"}
    assert (facts.strict_mode, facts.read_limit, facts.write_limit) == (True, 100, None)
    assert (facts.sparse, facts.multi) == (("words",), ("multi",))


def test_a_change_outside_the_embedded_text_reaches_the_shadow(server_db: Connection) -> None:
    name = create_rich(server_db)
    server_db.client.upsert(name, [point(each, row) for row, each in enumerate(IDS)])
    _, choice, gallery = migrated(server_db, name)
    server_db.client.set_payload(name, {"n": 42}, points=[2])
    kinds = table_of(gallery.read({"kind"})).column("kind").to_pylist()
    assert kinds == ["encoded", None, "encoded", "encoded"]
    gallery.write(to_write(["2"], ["text 2"], 1.0), Kind.ENCODED)
    assert contents(server_db, name, "old") == contents(server_db, choice.collection, "new")


def test_a_write_between_the_reads_of_payload_and_vectors_makes_the_copy_due(
    server_db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy holds the payload from before the write, and the vectors from after it."""
    name = create_rich(server_db)
    client = server_db.client
    client.upsert(name, [point(each, row) for row, each in enumerate(IDS)])
    _, choice, gallery = migrated(server_db, name)
    retrieve = Reader.retrieve

    def retrieve_and_write(reader: Reader, ids: Any, **wanted: Any) -> Page:
        found = retrieve(reader, ids, **wanted)
        if wanted.get("payload") is True:
            changed = point("1", 50)
            changed.payload = {**(changed.payload or {}), "text": "text 1", "n": 51}
            client.upsert(name, [changed], wait=True)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(Reader, "retrieve", retrieve_and_write)
        gallery.write(to_write(["1"], ["text 1"], 3.0), Kind.ENCODED)
    [copy] = client.retrieve(choice.collection, [1], with_vectors=["other"])
    assert copy.payload is not None
    assert (copy.payload["n"], copy.vector) == (0, {"other": [50.0, 0.5]})
    kinds = table_of(gallery.read({"source", "kind"}))
    made = dict(zip(*(kinds.column(each).to_pylist() for each in ("id", "kind")), strict=True))
    assert made == dict.fromkeys(IDS, "encoded") | {"1": None}
    gallery.write(to_write(["1"], ["text 1"], 3.0), Kind.ENCODED)
    again = table_of(gallery.read({"source", "old", "kind"}))
    assert again.column("kind").to_pylist() == ["encoded"] * len(IDS)


def test_a_point_deleted_after_its_copy_is_pruned(server_db: Connection) -> None:
    name = create_rich(server_db)
    server_db.client.upsert(name, [point(each, row) for row, each in enumerate(IDS)])
    _, choice, gallery = migrated(server_db, name)
    server_db.client.delete(name, models.PointIdsList(points=[1, IDS[3]]))
    assert gallery.prune() == 2
    assert contents(server_db, name, "old") == contents(server_db, choice.collection, "new")


def test_a_run_killed_between_the_steps_goes_on(server_db: Connection) -> None:
    name = create_rich(server_db)
    server_db.client.upsert(name, [point("1", 1)])
    facts = inspect(server_db, name, "old")
    choice = choose_layout(facts, server_db, Layout.SHADOW, NEW)
    record_shadow(server_db, choice.collection, (name, "new", 3, NEW.distance))
    # Killed before the collection was created, then before its last index was.
    prepare(server_db, facts, choose_layout(facts, server_db, Layout.SHADOW, NEW))
    server_db.client.delete_payload_index(choice.collection, "tenant")
    again = choose_layout(facts, server_db, Layout.SHADOW, NEW)
    assert not again.creates_collection
    prepare(server_db, facts, again)
    assert inspect_indexes(server_db, choice.collection) == inspect_indexes(server_db, name)


def inspect_indexes(connection: Connection, name: str) -> dict[str, Any]:
    schema = connection.client.get_collection(name).payload_schema
    return {field: index.params for field, index in schema.items()}


@pytest.fixture(scope="module", params=["rest", "packed"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Connection]:
    with running_server(clustered=True) as server:
        port = server.grpc_port if request.param == "packed" else free_port()
        with connect(server.url, grpc_port=port) as connection:
            yield connection


KEYS: dict[str | int, int] = {7: 2, "eu": 3}


def key_of(row: int) -> str | int:
    return "eu" if row % 2 else 7


def test_shard_keys_are_carried_to_a_shadow(cluster: Connection) -> None:
    name = create_rich(cluster, KEYS)
    for row, each in enumerate(IDS):
        cluster.client.upsert(name, [point(each, row)], shard_key_selector=key_of(row))
    facts, choice, gallery = migrated(cluster, name)
    assert (facts.custom_sharding, facts.shard_keys) == (True, (7, "eu"))
    assert shards_per_key(cluster, choice.collection) == shards_per_key(cluster, name) == KEYS
    assert contents(cluster, name, "old") == contents(cluster, choice.collection, "new")
    assert inspect_indexes(cluster, choice.collection) == inspect_indexes(cluster, name)
    cluster.client.delete(name, models.PointIdsList(points=[1]), shard_key_selector=7)
    assert gallery.prune() == 1
    assert contents(cluster, name, "old") == contents(cluster, choice.collection, "new")


def test_writes_in_place_follow_the_shard_keys(cluster: Connection) -> None:
    name = fresh_name()
    cluster.client.create_collection(
        name, vectors_config=vectors(old=4, new=3), sharding_method=models.ShardingMethod.CUSTOM
    )
    for key, number in KEYS.items():
        cluster.client.create_shard_key(name, key, shards_number=number)
    store = {"text": "t"}
    for row, each in enumerate(IDS):
        vector = {"old": [row, 1.0, 2.0, 3.0]}
        one = models.PointStruct(id=point(each, 0).id, vector=vector, payload=store)
        cluster.client.upsert(name, [one], shard_key_selector=key_of(row))
    facts = inspect(cluster, name, "old")
    choice = choose_layout(facts, cluster, None, NEW)
    gallery = open_gallery(cluster, facts, choice, TEXT, "plan")
    cluster.client.delete(name, models.PointIdsList(points=[2]), shard_key_selector="eu")
    written = gallery.write(to_write(IDS, ["t"] * 4, 1.0), Kind.ENCODED)
    assert (list(written.vanished), len(written.written)) == (["2"], 3)
    assert gallery.count(Kind.ENCODED) == gallery.count() == 3
    table = table_of(gallery.read({"kind", "new"}))
    assert table.column("kind").to_pylist() == ["encoded"] * 3
    assert sorted(vectors_of(table, "new")[:, 0].tolist()) == [1.0, 3.0, 4.0]


def test_a_point_that_moved_to_another_shard_key_leaves_no_copy_behind(cluster: Connection) -> None:
    name = create_rich(cluster, KEYS)
    for row, each in enumerate(IDS):
        cluster.client.upsert(name, [point(each, row)], shard_key_selector=key_of(row))
    _, choice, gallery = migrated(cluster, name)
    cluster.client.upsert(name, [point(IDS[0], 0)], shard_key_selector="eu")
    there = models.PointIdsList(points=[point(IDS[0], 0).id])
    cluster.client.delete(name, there, shard_key_selector=7)
    gallery.write(to_write(IDS[:1], ["t"], 1.0), Kind.ENCODED)
    assert gallery.prune() == 1
    assert gallery.prune() == 0
    for key in KEYS:
        counts = {
            cluster.client.count(each, shard_key_selector=key).count
            for each in (name, choice.collection)
        }
        assert len(counts) == 1


def test_one_id_under_two_shard_keys_is_refused(cluster: Connection) -> None:
    name = create_rich(cluster, KEYS)
    for row, each in enumerate(IDS):
        cluster.client.upsert(name, [point(each, row)], shard_key_selector=key_of(row))
    facts = inspect(cluster, name, "old")
    refuse_duplicate_ids(cluster, facts)
    cluster.client.upsert(name, [point(IDS[1], 1)], shard_key_selector=7)
    with pytest.raises(CollectionError, match=f"point {IDS[1]} of .* shard key: 7, 'eu'"):
        refuse_duplicate_ids(cluster, facts)


def test_a_shadow_that_disappears_is_an_error(server_db: Connection) -> None:
    name = create_rich(server_db)
    server_db.client.upsert(name, [point("1", 1)])
    _, choice, gallery = migrated(server_db, name)
    server_db.client.delete_collection(choice.collection)
    with pytest.raises(XbtMigrateError, match=choice.collection):
        list(gallery.read({"kind"}))
