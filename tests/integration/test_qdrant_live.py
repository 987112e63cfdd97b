"""An application goes on writing while its collection is migrated."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from qdrant_client import models

from tests.support.collections import QdrantStore, fresh_name, native, vectors
from xbtmigrate.protocols import Written
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.testing.galleries import fill, table_of, texts_of, to_write
from xbtmigrate.types import Kind, Layout, vectors_of

pytestmark = pytest.mark.server
MANY = [str(number) for number in range(1, 1501)]


@pytest.fixture(params=["server_db", "grpc_db"])
def db(request: pytest.FixtureRequest) -> Connection:
    connection: Connection = request.getfixturevalue(request.param)
    return connection


def store_in(db: Connection, layout: Layout) -> QdrantStore:
    return QdrantStore.create(db, layout, vectors(old=4, new=3))


def fill_many(store: QdrantStore) -> None:
    points = [
        models.PointStruct(
            id=int(each), vector={"old": [float(each), 1, 2, 3]}, payload={"text": f"text {each}"}
        )
        for each in MANY
    ]
    store.connection.client.upsert(store.name, points, wait=True)


def test_payload_and_other_vectors_stay_untouched(db: Connection) -> None:
    store = QdrantStore.create(db, Layout.IN_PLACE, vectors(old=4, new=3, other=2))
    payload = {"text": "one", "deep": {"list": [1, {"a": None}], "float": 0.1}, "ünï": "ß"}
    vector = {"old": [1.0, 2.0, 3.0, 4.0], "other": [5.0, 6.0]}
    db.client.upsert(store.name, [models.PointStruct(id=1, vector=vector, payload=payload)])
    store.gallery().write(to_write(["1"], ["one"], 7.0), Kind.PROJECTED)
    record = db.client.retrieve(store.name, [1], with_vectors=True)[0]
    assert record.vector == {**vector, "new": [7.0, 1.0, 2.0]}
    assert record.payload is not None
    mark = record.payload.pop("_xbtmigrate")
    assert record.payload == payload
    assert set(mark) == {"plan", "kind", "hash"}


def test_many_points_in_many_pages_and_shards(db: Connection) -> None:
    for layout in Layout:
        name = fresh_name()
        db.client.create_collection(name, vectors_config=vectors(old=4, new=3), shard_number=3)
        store = QdrantStore(db, layout, name)
        fill_many(store)
        gallery = store.gallery()
        old = np.array([[float(each), 1, 2, 3] for each in MANY], np.float32)
        texts = [f"text {each}" for each in MANY]
        gallery.write(to_write(MANY, texts, 0.0, old), Kind.PROJECTED)
        table = table_of(gallery.read({"kind", "old", "new"}))
        assert table.column("id").to_pylist() == MANY
        assert set(table.column("kind").to_pylist()) == {"projected"}
        np.testing.assert_array_equal(vectors_of(table, "old")[:, 0], np.arange(1, 1501))
        np.testing.assert_array_equal(vectors_of(table, "new")[:, 0], np.arange(0, 1500))
        assert gallery.count(Kind.PROJECTED) == 1500
        backwards = table_of(gallery.read({"old"}, ids=MANY[::-1]))
        assert backwards.column("id").to_pylist() == MANY[::-1]


@pytest.mark.parametrize("layout", list(Layout))
def test_points_deleted_during_the_run_stay_deleted(db: Connection, layout: Layout) -> None:
    store = store_in(db, layout)
    fill_many(store)
    gallery = store.gallery()
    gone = MANY[5::10]
    results: list[Written] = []
    for start in range(0, len(MANY), 100):
        ids = MANY[start : start + 100]
        first, *others = [each for each in ids if each in gone]
        store.delete(first)
        with ThreadPoolExecutor(1) as application:
            application.map(store.delete, others)
            batch = to_write(ids, [f"text {each}" for each in ids], 1.0)
            results.append(gallery.write(batch, Kind.ENCODED))
    gallery.prune()

    vanished = [each for result in results for each in result.vanished]
    written = [each for result in results for each in result.written]
    assert sorted(written + vanished, key=int) == MANY
    assert set(vanished) <= set(gone)
    assert set(gone[::10]) <= set(vanished)
    assert gallery.count() == gallery.count(Kind.ENCODED) == len(MANY) - len(gone)
    ids = table_of(gallery.read({"source"})).column("id").to_pylist()
    assert ids == [each for each in MANY if each not in set(gone)]


@pytest.mark.parametrize("layout", list(Layout))
def test_a_batch_of_points_that_are_all_gone(db: Connection, layout: Layout) -> None:
    store = store_in(db, layout)
    fill(store)
    gallery = store.gallery()
    result = gallery.write(to_write(["71", "72"], ["a", "b"], 1.0), Kind.ENCODED)
    assert (list(result.written), list(result.vanished)) == ([], ["71", "72"])
    assert gallery.count(Kind.ENCODED) == 0


def test_an_application_that_reads_and_upserts_drops_only_the_vector(db: Connection) -> None:
    store = store_in(db, Layout.IN_PLACE)
    fill(store)
    gallery = store.gallery()
    ids = ["1", "2"]
    gallery.write(to_write(ids, texts_of(ids), 1.0), Kind.ENCODED)
    record = db.client.retrieve(store.name, [1], with_vectors=["old"])[0]
    assert record.payload is not None
    assert "_xbtmigrate" in record.payload
    again = models.PointStruct(id=1, vector=record.vector, payload=record.payload)  # type: ignore[arg-type]
    db.client.upsert(store.name, [again], wait=True)
    assert kinds(store, ids) == [None, "encoded"]
    assert gallery.count(Kind.ENCODED) == 1


def test_a_text_set_back_to_what_an_older_mark_names(db: Connection) -> None:
    """The run was killed between vector and mark; then the mark's own text came back."""
    store = store_in(db, Layout.IN_PLACE)
    fill(store)
    gallery = store.gallery()
    gallery.write(to_write(["1"], ["text 1"], 1.0), Kind.ENCODED)
    former = db.client.retrieve(store.name, [1])[0].payload
    gallery.write(to_write(["1"], ["another text"], 5.0), Kind.ENCODED)
    assert former is not None
    db.client.overwrite_payload(store.name, former, points=[1], wait=True)
    assert kinds(store, ["1"]) == [None]
    gallery.write(to_write(["1"], ["text 1"], 1.0), Kind.ENCODED)
    assert kinds(store, ["1"]) == ["encoded"]


def test_points_that_arrive_behind_the_cursor_are_found(db: Connection) -> None:
    store = store_in(db, Layout.IN_PLACE)
    fill(store)
    gallery = store.gallery()
    batches = gallery.read({"source"}, after="2")
    store.upsert("1", "changed behind the cursor", [1.0, 1.0, 1.0, 1.0])
    store.upsert("31", "arrived before the cursor", [1.0, 1.0, 1.0, 1.0])
    seen = table_of(batches).column("id").to_pylist()
    assert "1" not in seen
    assert "31" in seen
    everything = table_of(gallery.read({"source"}))
    assert "changed behind the cursor" in everything.column("text").to_pylist()


@pytest.mark.parametrize("layout", list(Layout))
def test_steady_upserts_never_look_done(db: Connection, layout: Layout) -> None:
    store = store_in(db, layout)
    fill_many(store)
    gallery = store.gallery()
    rounds = 30

    def upsert() -> None:
        for turn in range(rounds):
            store.upsert(MANY[turn], f"turn {turn}", [0.0, 0.0, 0.0, float(turn)])

    application = threading.Thread(target=upsert)
    application.start()
    for batch in gallery.read({"source"}):
        ids = batch.column("id").to_pylist()
        gallery.write(to_write(ids, batch.column("text").to_pylist(), 1.0), Kind.ENCODED)
    application.join()

    for turn in range(rounds):
        kind = kinds(store, [MANY[turn]])[0]
        if kind is not None:
            # It counts as done only if it was read after its last change.
            assert made_from(store, MANY[turn]) == f"turn {turn}"
    left = table_of(gallery.read({"source", "kind"}))
    missing = left.filter(left.column("kind").is_null())
    assert missing.num_rows <= rounds
    if missing.num_rows:
        ids, texts = (missing.column(name).to_pylist() for name in ("id", "text"))
        gallery.write(to_write(ids, texts, 1.0), Kind.ENCODED)
    assert gallery.count(Kind.ENCODED) == gallery.count() == len(MANY)


def kinds(store: QdrantStore, ids: Sequence[str]) -> list[str | None]:
    values: list[str | None] = (
        table_of(store.gallery().read({"kind"}, ids=ids)).column("kind").to_pylist()
    )
    return values


def made_from(store: QdrantStore, point_id: str) -> str:
    """Return the text of a point: what it counts as done for."""
    record = store.connection.client.retrieve(store.name, [native(point_id)])[0]
    assert record.payload is not None
    text: str = record.payload["text"]
    return text
