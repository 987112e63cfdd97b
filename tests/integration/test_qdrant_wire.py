"""Bytes in, bytes out: what is read and written without the client is what the client would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from qdrant_client import models

from tests.support.collections import QdrantStore, fresh_name, vectors
from tests.support.qdrant_server import Server, free_port, running_server
from xbtmigrate.qdrant.wire.connect import connect
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.own_collection import JOURNAL
from xbtmigrate.qdrant.wire.points import NewPoint, Sparse
from xbtmigrate.qdrant.wire.reader import Reader, parse_records
from xbtmigrate.qdrant.wire.transport import Rpc
from xbtmigrate.qdrant.wire.writer import GrpcSender, RestSender, Writer
from xbtmigrate.testing.galleries import IDS, fill, texts_of, to_write
from xbtmigrate.types import Kind, Layout

pytestmark = pytest.mark.server

COSINE = models.Distance.COSINE
MULTI = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
PAYLOAD = {
    "text": 'Grüße, "quoted" \\ and \u0000',
    "numbers": [0, -1, 2**63 - 1, 1.5, 1.0, True, None],
    "nested": {"a": {"b": []}},
}


@pytest.fixture
def packed_db(qdrant_server: Server) -> Iterator[Connection]:
    """The real server as most users reach it: REST, with gRPC found at its port."""
    with connect(qdrant_server.url, grpc_port=qdrant_server.grpc_port) as connection:
        yield connection


def rows(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(size).standard_normal((count, size)).astype(np.float32)


def rpc_of(connection: Connection, *, trusted: bool = True) -> Rpc:
    """The gRPC side of a connection, as it is once a write has proven where the port leads."""
    assert connection.rpc is not None
    connection.rpc.trusted = trusted
    return connection.rpc


@pytest.mark.parametrize("datatype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("trusted", [True, False])
def test_a_scan_equals_the_clients_own(
    packed_db: Connection, datatype: str, named: bool, trusted: bool
) -> None:
    rpc_of(packed_db, trusted=trusted)
    name, client = fresh_name(), packed_db.client
    params = models.VectorParams(size=33, distance=COSINE, datatype=models.Datatype(datatype))
    client.create_collection(name, vectors_config={"old": params} if named else params)
    values = np.abs(rows(len(IDS), 33) * 50)
    points = [
        models.PointStruct(
            id=int(each) if each.isdecimal() else each,
            vector={"old": row.tolist()} if named else row.tolist(),
            payload=PAYLOAD,
        )
        for each, row in zip(IDS, values, strict=True)
    ]
    client.upsert(name, points, wait=True)
    records, _ = client.scroll(name, limit=100, with_vectors=True)
    expected = parse_records(records)
    selection = ["old"] if named else [""]
    key, reader = "old" if named else "", Reader(packed_db, name, 100)
    for payload in (True, [f'"{each}"' for each in PAYLOAD]):
        (page,) = reader.scroll(payload=payload, vectors=selection)
        assert page.ids == expected.ids == list(IDS)
        assert page.payloads == expected.payloads
        assert page.dense(key, 33).equals(expected.dense(key, 33))
        assert page.dense("absent", 33).null_count == len(IDS)
    backwards = list(reversed(IDS))
    found = reader.retrieve(backwards, vectors=selection)
    assert found.ids == backwards
    assert found.dense(key, 33).equals(expected.rows(range(len(IDS))[::-1]).dense(key, 33))
    assert [
        page.ids for page in Reader(packed_db, name, 4).scroll(payload=False, vectors=selection)
    ] == [list(IDS[:4]), list(IDS[4:])]
    (bare,) = Reader(packed_db, name, 100).scroll(payload=['"text"'], vectors=False)
    assert bare.payloads == [{"text": PAYLOAD["text"]}] * len(IDS)
    assert bare.vectors == [{}] * len(IDS)


def rich(connection: Connection) -> str:
    name = fresh_name()
    connection.client.create_collection(
        name,
        vectors_config={
            "dense": models.VectorParams(size=3, distance=COSINE),
            "multi": models.VectorParams(size=2, distance=COSINE, multivector_config=MULTI),
        },
        sparse_vectors_config={"words": models.SparseVectorParams()},
    )
    return name


@pytest.mark.parametrize("trusted", [True, False])
def test_what_is_no_number_is_left_out(
    packed_db: Connection, grpc_db: Connection, trusted: bool
) -> None:
    """Servers take NaN and infinity over gRPC and show null over REST, in any kind of vector."""
    rpc_of(packed_db, trusted=trusted)
    name, nan, inf = fresh_name(), float("nan"), float("inf")
    packed_db.client.create_collection(
        name,
        vectors_config={
            "": models.VectorParams(size=2, distance=models.Distance.DOT),
            "multi": models.VectorParams(size=2, distance=COSINE, multivector_config=MULTI),
        },
        sparse_vectors_config={"sparse": models.SparseVectorParams()},
    )
    broken: list[models.VectorStruct] = [
        {"": [nan, 1.0], "multi": [[1.0, 0.0], [0.0, 1.0]]},
        {"": [1.0, 2.0], "multi": [[1.0, 0.0], [inf, 1.0]]},
        {"": [1.0, 2.0], "sparse": models.SparseVector(indices=[1, 5], values=[1.0, nan])},
        {"": [-inf, 2.0], "sparse": models.SparseVector(indices=[1, 5], values=[1.0, 2.0])},
    ]
    points = [models.PointStruct(id=row, vector=each) for row, each in enumerate(broken)]
    grpc_db.client.upsert(name, points, wait=True)
    reader, names = Reader(packed_db, name, 100), ["", "multi", "sparse"]
    expected = [{"multi"}, {""}, {""}, {"sparse"}]
    (page,) = reader.scroll(payload=False, vectors=names)
    assert [set(each) for each in page.vectors] == expected
    found = reader.retrieve(["3", "0"], vectors=names)
    assert [set(each) for each in found.vectors] == [expected[3], expected[0]]


@pytest.mark.parametrize("route", ["packed", "rest"])
def test_whole_points_come_back_as_they_were_stored(packed_db: Connection, route: str) -> None:
    name = rich(packed_db)
    sparse = Sparse(np.array([1, 2**32 - 1], np.uint32), np.array([0.5, 2.0], np.float32))
    multi = np.array([[0.6, 0.8], [1.0, 0.0], [0.0, -1.0]], np.float32)
    dense = np.array([0.0, 0.6, 0.8], np.float32)
    points = [
        NewPoint(each, PAYLOAD, {"dense": dense, "multi": multi, "words": sparse}) for each in IDS
    ]
    rest = packed_db.rest
    assert rest is not None
    chosen = GrpcSender(rpc_of(packed_db), name) if route == "packed" else RestSender(rest, name)
    packed_db.write(lambda: chosen.upsert(points, None))
    rpc_of(packed_db, trusted=route == "packed")
    reader = Reader(packed_db, name, 100)
    page = reader.retrieve(list(IDS), payload=True, vectors=True)
    assert page.ids == list(IDS)
    assert page.payloads == [PAYLOAD] * len(IDS)
    chosen_page = reader.retrieve(list(IDS), vectors=["dense", "multi", "words"])
    for found in [*page.vectors, *chosen_page.vectors]:
        np.testing.assert_allclose(found["dense"], dense, atol=1e-6)
        np.testing.assert_allclose(found["multi"], multi, atol=1e-6)
        words = found["words"]
        assert isinstance(words, Sparse)
        assert (words.indices.tolist(), words.values.tolist()) == ([1, 2**32 - 1], [0.5, 2.0])


def test_a_payload_that_grpc_cannot_carry_goes_over_rest(packed_db: Connection) -> None:
    name = rich(packed_db)
    point = NewPoint("1", {"hash": 2**64 - 1}, {"dense": rows(1, 3)[0]})
    Writer(packed_db, name).upsert([point], None)
    page = Reader(packed_db, name, 100).retrieve(["1"], payload=True)
    assert page.payloads == [{"hash": 2**64 - 1}]


@pytest.mark.parametrize("layout", list(Layout))
def test_another_server_behind_the_grpc_port_is_never_written_to(
    qdrant_server: Server, layout: Layout
) -> None:
    with (
        running_server() as other,
        connect(other.url) as stranger,
        connect(qdrant_server.url, grpc_port=other.grpc_port) as connection,
    ):
        store = QdrantStore.create(connection, layout, vectors(old=4, new=3))
        twin = QdrantStore(stranger, layout, store.name)
        stranger.client.create_collection(store.name, vectors_config=vectors(old=4, new=3))
        stranger.client.create_collection(JOURNAL, vectors_config={})
        fill(store)
        fill(twin)
        gallery, untouched = store.gallery(), twin.gallery()
        gallery.write(to_write(IDS, texts_of(IDS), 10.0), Kind.ENCODED)
        assert gallery.count(Kind.ENCODED) == len(IDS)
        assert untouched.count(Kind.ENCODED) == 0
        assert stranger.client.count(JOURNAL).count == (layout is Layout.SHADOW)


def test_nothing_of_the_probe_stays(packed_db: Connection) -> None:
    probes = models.Filter(
        must=[models.FieldCondition(key="kind", match=models.MatchValue(value="probe"))]
    )

    def left() -> int:
        """Probes there; a run that was killed while it probed leaves its own."""
        if not packed_db.client.collection_exists(JOURNAL):
            return 0
        return packed_db.client.count(JOURNAL, probes).count

    before = left()
    store = QdrantStore.create(packed_db, Layout.IN_PLACE, vectors(old=4, new=3))
    fill(store)
    store.gallery().write(to_write(IDS, texts_of(IDS), 10.0), Kind.ENCODED)
    assert left() == before


def test_where_only_grpc_answers_everything_goes_over_it(qdrant_server: Server) -> None:
    closed = f"http://127.0.0.1:{free_port()}"
    with connect(closed, prefer_grpc=True, grpc_port=qdrant_server.grpc_port) as connection:
        assert connection.rest is None
        store = QdrantStore.create(connection, Layout.IN_PLACE, vectors(old=4, new=3))
        fill(store)
        assert len(Reader(connection, store.name, 4).retrieve(IDS[:2], vectors=["old"])) == 2


@pytest.mark.parametrize("layout", list(Layout))
def test_without_rest_a_migration_comes_to_the_same(grpc_db: Connection, layout: Layout) -> None:
    store = QdrantStore.create(grpc_db, layout, vectors(old=4, new=3))
    fill(store)
    store.gallery()
    silent = replace(store, connection=replace(grpc_db, rest=None))
    gallery = silent.gallery()
    written = gallery.write(to_write(IDS, texts_of(IDS), 10.0), Kind.ENCODED)
    assert list(written.written) == list(IDS)
    for reader in (gallery, store.gallery()):
        tables = [batch.to_pydict() for batch in reader.read({"kind", "new"})]
        assert tables[0]["kind"] == ["encoded"] * len(IDS)
        assert [row[0] for row in tables[0]["new"]] == [10.0, 11.0, 12.0, 13.0, 14.0, 15.0]


def test_a_key_is_sent_both_ways() -> None:
    with (
        running_server({"QDRANT__SERVICE__API_KEY": "secret"}) as guarded,
        connect(guarded.url, api_key="secret", grpc_port=guarded.grpc_port) as connection,
    ):
        store = QdrantStore.create(connection, Layout.IN_PLACE, vectors(old=4, new=3))
        fill(store)
        gallery = store.gallery()
        gallery.write(to_write(IDS, texts_of(IDS), 10.0), Kind.ENCODED)
        assert gallery.count(Kind.ENCODED) == len(IDS)
