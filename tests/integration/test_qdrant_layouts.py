"""The facts of a collection, and the layout that follows from them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from qdrant_client import models

from tests.support.collections import NEW, TEXT, QdrantStore, fresh_name, vectors
from xbtmigrate.errors import CollectionError, UnsupportedError
from xbtmigrate.qdrant.collection.facts import inspect
from xbtmigrate.qdrant.gallery.create import prepare
from xbtmigrate.qdrant.gallery.layout import NewSpace, choose_layout
from xbtmigrate.qdrant.gallery.open_gallery import open_gallery
from xbtmigrate.qdrant.gallery.store_hubness import index_numbers
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.testing.galleries import table_of, to_write
from xbtmigrate.types import Distance, Kind, Layout, vectors_of

UNNAMED = models.VectorParams(size=4, distance=models.Distance.COSINE)
MULTI = models.VectorParams(
    size=2,
    distance=models.Distance.DOT,
    multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
)


@pytest.fixture(
    params=[
        pytest.param("server_db", marks=pytest.mark.server),
        pytest.param("grpc_db", marks=pytest.mark.server),
        "embedded_db",
    ]
)
def db(request: pytest.FixtureRequest) -> Connection:
    connection: Connection = request.getfixturevalue(request.param)
    return connection


def filled(db: Connection, config: object, layout: Layout = Layout.IN_PLACE) -> QdrantStore:
    store = QdrantStore.create(db, layout, config)  # type: ignore[arg-type]
    store.upsert("1", "one", [3.0, 4.0, 0.0, 0.0])
    store.upsert("2", None, [0.0, 0.0, 1.0, 0.0])
    return store


def test_facts_of_a_named_vector(db: Connection) -> None:
    store = filled(db, vectors(old=4, other=2) | {"multi": MULTI})
    db.client.upsert(store.name, [models.PointStruct(id=3, vector={"other": [1.0, 2.0]})])
    facts = inspect(db, store.name, "old")
    assert (facts.points, facts.with_vector) == (3, 2)
    assert (facts.size, facts.distance, facts.datatype) == (4, Distance.DOT, "float32")
    assert facts.dense == {"other": (2, Distance.DOT)}
    assert (facts.multi, facts.sparse, facts.unnamed) == (("multi",), (), False)
    assert (facts.status, facts.strict_mode, facts.custom_sharding) == ("green", False, False)


def test_facts_through_an_alias(db: Connection) -> None:
    store = filled(db, UNNAMED)
    alias = fresh_name()
    create = models.CreateAlias(collection_name=store.name, alias_name=alias)
    db.client.update_collection_aliases([models.CreateAliasOperation(create_alias=create)])
    facts = inspect(db, alias, "")
    assert (facts.requested, facts.collection, facts.unnamed) == (alias, store.name, True)
    assert facts.distance is Distance.COSINE


@pytest.mark.server
def test_only_the_present_numbers_are_indexed(server_db: Connection) -> None:
    store = filled(server_db, vectors(old=4))
    for key in ("hub_first", "hub_second", "hub_second"):
        index_numbers(server_db, store.name, key)
    schema = server_db.client.get_collection(store.name).payload_schema
    assert list(schema) == ["_xbtmigrate.hub_second"]
    assert schema["_xbtmigrate.hub_second"].data_type is models.PayloadSchemaType.FLOAT


def test_the_identity_ignores_what_serving_changes(db: Connection) -> None:
    store = filled(db, vectors(old=4, other=4))
    before = inspect(db, store.name, "old")
    store.upsert("9", "nine", [1.0, 1.0, 1.0, 1.0])
    assert inspect(db, store.name, "old").identity == before.identity
    assert inspect(db, store.name, "old").points == 3
    db.client.upsert(store.name, [models.PointStruct(id=3, vector={"other": [1.0] * 4})])
    assert inspect(db, store.name, "other").identity != before.identity


def test_a_wrong_collection_lists_what_there_is(db: Connection) -> None:
    store = filled(db, UNNAMED)
    with pytest.raises(CollectionError, match="no collection 'absent'") as caught:
        inspect(db, "absent", "")
    assert store.name in caught.value.hint


@pytest.mark.parametrize(("vector", "names"), [("absent", "'old'"), ("", "'old'")])
def test_a_wrong_vector_lists_the_names(db: Connection, vector: str, names: str) -> None:
    store = filled(db, vectors(old=4))
    with pytest.raises(CollectionError, match="vector") as caught:
        inspect(db, store.name, vector)
    assert names in caught.value.hint


def test_an_empty_collection(db: Connection) -> None:
    store = QdrantStore.create(db, Layout.IN_PLACE, UNNAMED)
    with pytest.raises(CollectionError, match="is empty"):
        inspect(db, store.name, "")


def test_a_multivector_cannot_be_migrated(db: Connection) -> None:
    store = filled(db, vectors(old=4) | {"multi": MULTI})
    with pytest.raises(UnsupportedError, match="multivector"):
        inspect(db, store.name, "multi")


def test_a_vector_that_is_there_is_used_in_place(db: Connection) -> None:
    store = filled(db, vectors(old=4, new=3))
    choice = choose_layout(inspect(db, store.name, "old"), db, None, NEW)
    assert (choice.layout, choice.collection) == (Layout.IN_PLACE, store.name)
    assert (choice.creates_vector, choice.creates_collection) == (False, False)
    assert "already there" in choice.reason


@pytest.mark.server
def test_a_server_that_cannot_add_a_vector_gets_a_shadow(server_db: Connection) -> None:
    if server_db.at_least((1, 18, 0)):
        pytest.skip("this server can add a vector")
    store = filled(server_db, vectors(old=4))
    facts = inspect(server_db, store.name, "old")
    choice = choose_layout(facts, server_db, None, NEW)
    assert choice.layout is Layout.SHADOW
    assert choice.collection == f"{store.name}__xbtmigrate"
    assert "1.18" in choice.reason
    with pytest.raises(UnsupportedError, match=r"1\.18") as caught:
        choose_layout(facts, server_db, Layout.IN_PLACE, NEW)
    assert "shadow" in caught.value.hint


def test_the_embedded_mode_adds_the_vector_once(embedded_db: Connection) -> None:
    store = filled(embedded_db, vectors(old=4))
    facts = inspect(embedded_db, store.name, "old")
    choice = choose_layout(facts, embedded_db, None, NEW)
    assert (choice.layout, choice.creates_vector) == (Layout.IN_PLACE, True)
    prepare(embedded_db, facts, choice)
    prepare(embedded_db, facts, choice)
    assert inspect(embedded_db, store.name, "old").dense == {"new": (3, Distance.DOT)}


def test_an_unnamed_vector_keeps_having_no_name_in_the_shadow(db: Connection) -> None:
    store = filled(db, UNNAMED)
    facts = inspect(db, store.name, "")
    with pytest.raises(UnsupportedError, match="no name"):
        choose_layout(facts, db, Layout.IN_PLACE, NEW)
    choice = choose_layout(facts, db, None, NEW)
    assert (choice.layout, choice.creates_collection) == (Layout.SHADOW, True)
    prepare(db, facts, choice)
    config = db.client.get_collection(choice.collection).config.params.vectors
    assert isinstance(config, models.VectorParams)
    assert (config.size, config.distance) == (3, models.Distance.DOT)


@pytest.mark.parametrize("layout", [None, Layout.SHADOW])
def test_a_vector_of_another_size_is_in_the_way(db: Connection, layout: Layout | None) -> None:
    store = filled(db, vectors(old=4, new=5))
    facts = inspect(db, store.name, "old")
    with pytest.raises(CollectionError, match="size 5"):
        choose_layout(facts, db, layout, NEW)


def test_the_old_vector_is_never_the_target_in_place(db: Connection) -> None:
    facts = inspect(db, filled(db, vectors(old=4)).name, "old")
    same = NewSpace("old", 3, Distance.DOT)
    with pytest.raises(UnsupportedError, match="name of the old one"):
        choose_layout(facts, db, Layout.IN_PLACE, same)
    assert choose_layout(facts, db, None, same).layout is Layout.SHADOW


def test_vectors_of_somebody_else_are_not_overwritten(db: Connection) -> None:
    store = filled(db, vectors(old=4, new=3))
    facts = inspect(db, store.name, "old")
    db.client.update_vectors(store.name, [models.PointVectors(id=1, vector={"new": [1, 2, 3]})])
    with pytest.raises(CollectionError, match=r"1 point\(s\).*overwrite"):
        choose_layout(facts, db, None, NEW)
    assert choose_layout(facts, db, None, NEW, resuming=True).layout is Layout.IN_PLACE


def test_our_own_vectors_are_no_obstacle(db: Connection) -> None:
    store = filled(db, vectors(old=4, new=3))
    store.gallery().write(to_write(["1"], ["one"], 5.0), Kind.ENCODED)
    choose_layout(inspect(db, store.name, "old"), db, None, NEW)


def test_a_collection_of_somebody_else_is_not_a_shadow(db: Connection) -> None:
    store = filled(db, UNNAMED)
    db.client.create_collection(f"{store.name}__xbtmigrate", vectors_config=vectors(mine=2))
    with pytest.raises(CollectionError, match="did not make"):
        choose_layout(inspect(db, store.name, ""), db, None, NEW)


def test_a_shadow_of_ours_is_found_again_unless_it_holds_other_vectors(db: Connection) -> None:
    store = filled(db, UNNAMED)
    facts = inspect(db, store.name, "")
    prepare(db, facts, choose_layout(facts, db, None, NEW))
    assert not choose_layout(facts, db, None, NEW).creates_collection
    with pytest.raises(CollectionError, match="other vectors"):
        choose_layout(facts, db, None, replace(NEW, size=7))


def test_choosing_writes_nothing(embedded_db: Connection) -> None:
    store = filled(embedded_db, UNNAMED)
    choose_layout(inspect(embedded_db, store.name, ""), embedded_db, None, NEW)
    names = [each.name for each in embedded_db.client.get_collections().collections]
    assert names == [store.name]


def test_cosine_vectors_come_back_normalised_and_others_as_they_are(db: Connection) -> None:
    for config, expected in ((UNNAMED, [0.6, 0.8, 0.0, 0.0]), (vectors(old=4), [3.0, 4.0, 0, 0])):
        store = filled(db, config, Layout.SHADOW)
        old = vectors_of(table_of(store.gallery().read({"old"}, ids=["1"])), "old")
        np.testing.assert_allclose(old, [expected], rtol=1e-6)


@pytest.mark.server
@pytest.mark.parametrize(
    ("datatype", "given"),
    [(models.Datatype.UINT8, [0.0, 7.0, 255.0, 1.0]), (models.Datatype.FLOAT16, [0.5, 1, 2, -4])],
)
def test_small_datatypes_are_read_and_bytes_are_not_inherited(
    server_db: Connection, datatype: models.Datatype, given: list[float]
) -> None:
    old = models.VectorParams(size=4, distance=models.Distance.DOT, datatype=datatype)
    store = QdrantStore.create(server_db, Layout.SHADOW, {"old": old})
    store.upsert("1", "one", given)
    gallery = store.gallery()
    gallery.write(to_write(["1"], ["one"], 0.25), Kind.PROJECTED)
    table = table_of(gallery.read({"old", "new"}))
    assert vectors_of(table, "old").tolist() == [given]
    assert vectors_of(table, "new").tolist() == [[0.25, 1.0, 2.0]]
    assert inspect(server_db, store.name, "old").datatype == datatype.value


@pytest.mark.server
def test_bytes_are_no_place_for_new_vectors(server_db: Connection) -> None:
    config = vectors(old=4, new=3)
    config["new"].datatype = models.Datatype.UINT8
    store = filled(server_db, config)
    with pytest.raises(CollectionError, match="vector 'new' as uint8"):
        choose_layout(inspect(server_db, store.name, "old"), server_db, None, NEW)


def test_points_without_the_old_vector_are_null(db: Connection) -> None:
    store = filled(db, vectors(old=4, new=3))
    point = models.PointStruct(id=7, vector={}, payload={"text": "seven"})
    db.client.upsert(store.name, [point])
    facts = inspect(db, store.name, "old")
    choice = choose_layout(facts, db, None, NEW)
    table = table_of(open_gallery(db, facts, choice, TEXT, "plan").read({"old", "source"}))
    assert table.column("old").is_null().to_pylist() == [False, False, True]
    assert table.column("text").to_pylist() == ["one", None, "seven"]


@pytest.mark.server
def test_strict_mode_limits_are_kept(server_db: Connection) -> None:
    name = fresh_name()
    strict = models.StrictModeConfig(
        enabled=True,
        max_query_limit=3,
        upsert_max_batchsize=2,
        unindexed_filtering_retrieve=False,
        unindexed_filtering_update=False,
    )
    server_db.client.create_collection(
        name, vectors_config=vectors(old=4, new=3), strict_mode_config=strict
    )
    store = QdrantStore(server_db, Layout.IN_PLACE, name)
    ids = [str(number) for number in range(8)]
    for point_id in ids:
        store.upsert(point_id, point_id, [1.0, 2.0, 3.0, 4.0])
    for layout in Layout:
        store.layout = layout
        gallery = store.gallery()
        gallery.write(to_write(ids, ids, 1.0), Kind.ENCODED)
        assert gallery.count(Kind.ENCODED) == 8
        batches = list(gallery.read({"kind", "new"}))
        assert max(batch.num_rows for batch in batches) == 3
        assert table_of(batches).column("kind").to_pylist() == ["encoded"] * 8
