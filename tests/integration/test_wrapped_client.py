"""A wrapped client under an application that knows nothing of the migration."""

from __future__ import annotations

import asyncio
import uuid

import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient, models

from tests.support.collections import fresh_name
from tests.support.command import answer_inside
from tests.support.migrating import Migrating, marked, new_model, old_model
from xbtmigrate.errors import UnsupportedError
from xbtmigrate.serving import MigrationSearcher, wrap, wrap_async
from xbtmigrate.types import Kind

COUNT = 300

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def client(qdrant_url: str):
    client = QdrantClient(url=qdrant_url, check_compatibility=False)
    yield client
    client.close()


@pytest.fixture(scope="module", params=["in_place", "shadow"])
def migrating(request, client: QdrantClient, qdrant_url: str, tmp_path_factory) -> Migrating:
    folder = tmp_path_factory.mktemp("wrapped")
    made = Migrating.start(client, qdrant_url, folder, layout=request.param, count=COUNT)
    made.backfill(0.5)
    return made


@pytest.fixture(scope="module")
def opening(migrating: Migrating) -> dict:
    return {
        "new_encoder": new_model,
        "old_encoder": old_model,
        "folder": migrating.artefacts.folder,
        "interval": 0,
        "serving": "single",
    }


@pytest.fixture(scope="module")
def wrapped(migrating: Migrating, client: QdrantClient, opening: dict):
    return wrap(client, migrating.name, **opening)


def ids(response) -> list[int]:
    return [point.id for point in response.points]


def test_it_is_a_client_and_leaves_other_collections_alone(wrapped, client):
    assert isinstance(wrapped, QdrantClient)
    name = fresh_name()
    wrapped.create_collection(
        name, vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT)
    )
    rows = [[0.05, 0.61, 0.76, 0.74], [0.19, 0.81, 0.75, 0.11], [0.36, 0.55, 0.47, 0.94]]
    points = [
        models.PointStruct(id=number, vector=row, payload={"city": f"c{number}"})
        for number, row in enumerate(rows, 1)
    ]
    wrapped.upsert(collection_name=name, wait=True, points=points)
    found = wrapped.query_points(
        collection_name=name, query=[0.2, 0.1, 0.9, 0.7], with_payload=False, limit=3
    )
    assert ids(found) == ids(client.query_points(name, query=[0.2, 0.1, 0.9, 0.7], limit=3))
    wrapped.upload_points(name, iter(points))
    wrapped.delete(name, models.PointIdsList(points=[1]))
    assert wrapped.count(name).count == 2
    wrapped.delete_collection(name)


def test_queries_get_the_answers_of_the_searcher(migrating, client, wrapped, opening):
    searcher = MigrationSearcher.open(client, migrating.name, **opening)
    vectors = new_model(migrating.clipart.captions[:10])
    expected = [[p.id for p in searcher.search(vector=each)] for each in vectors]
    found = [
        ids(wrapped.query_points(migrating.name, query=each, using="old", limit=10))
        for each in vectors
    ]
    assert found == expected
    requests = [models.QueryRequest(query=each.tolist(), using="old", limit=10) for each in vectors]
    assert [ids(each) for each in wrapped.query_batch_points(migrating.name, requests)] == expected
    old = old_model(migrating.clipart.captions[:1])[0]
    assert ids(wrapped.query_points(migrating.name, old, "old", limit=5)) == ids(
        client.query_points(migrating.name, old, "old", limit=5)
    )


def test_a_search_within_a_larger_request_is_translated(migrating, client, wrapped):
    vector = new_model(migrating.clipart.captions[:1])[0].tolist()
    prefetch = [models.Prefetch(query=vector, using="old", limit=20)]
    fused = wrapped.query_points(
        migrating.name, prefetch=prefetch, query=models.FusionQuery(fusion=models.Fusion.RRF)
    )
    assert len(fused.points) == 10
    grouped = wrapped.query_points_groups(
        migrating.name, "caption", query=vector, using="old", limit=3, group_size=1
    )
    assert len(grouped.groups) == 3
    by_id = wrapped.query_points(migrating.name, query=migrating.clipart.ids[0], using="old")
    assert ids(by_id) == ids(
        client.query_points(migrating.name, query=migrating.clipart.ids[0], using="old")
    )


def test_the_vectors_of_other_queries_meet_their_own_space(migrating, wrapped):
    vector = new_model(migrating.clipart.captions[:1])[0].tolist()
    # The opposite: with any other caption the context would rank by which map was fitted.
    other = [-value for value in vector]
    plain = wrapped.query_points(migrating.name, query=vector, using="old", limit=10)
    queries = [
        models.NearestQuery(nearest=vector, mmr=models.Mmr(diversity=0.0, candidates_limit=20)),
        models.RecommendQuery(
            recommend=models.RecommendInput(
                positive=[vector], negative=[], strategy=models.RecommendStrategy.BEST_SCORE
            )
        ),
        models.DiscoverQuery(
            discover=models.DiscoverInput(
                target=vector, context=[models.ContextPair(positive=vector, negative=other)]
            )
        ),
    ]
    for query in queries:
        found = wrapped.query_points(migrating.name, query=query, using="old", limit=10)
        assert len(set(ids(found)) & set(ids(plain))) >= 3, type(query)
    rescored = wrapped.query_points(
        migrating.name,
        prefetch=[models.Prefetch(query=vector, using="old", limit=20)],
        query=vector,
        using="old",
    )
    assert len(set(ids(rescored)) & set(ids(plain))) >= 3


def test_before_the_cutover_a_client_of_one_line_changes_nothing(migrating, client):
    """Without the old model: the application goes on with it, and never meets the new one."""
    name, clipart = migrating.name, migrating.clipart
    lone = wrap(client, name, new_encoder=new_model, folder=migrating.artefacts.folder)
    assert lone.embeds_with == "old"
    for caption in clipart.captions[:10]:
        query = old_model([caption])[0]
        found = lone.query_points(name, query, "old", limit=10, with_vectors=True)
        plain = client.query_points(name, query, "old", limit=10)
        assert [(p.id, p.score) for p in found.points] == [(p.id, p.score) for p in plain.points]
        assert all(set(point.vector) == {"old"} for point in found.points)
        assert all("_xbtmigrate" not in point.payload for point in found.points)
    params = lone.get_collection(name).config.params.vectors
    assert {key: each.size for key, each in params.items()} == {"old": 128}
    assert not [key for key in lone.get_collection(name).payload_schema if "_xbt" in key]
    listed = {each.name for each in lone.get_collections().collections}
    assert name in listed
    assert listed.isdisjoint({"_xbtmigrate", f"{name}__xbtmigrate"})
    for records in (
        lone.scroll(name, limit=5, with_vectors=["old"])[0],
        lone.retrieve(name, clipart.ids[:5], with_vectors=True),
    ):
        assert all(len(record.vector["old"]) == 128 for record in records)
        assert all(record.payload.keys() == {"image", "caption"} for record in records)
    vector = new_model(clipart.captions[:1])[0].tolist()
    with pytest.raises(UnsupportedError, match="is not cut over"):
        lone.query_points(name, vector, "old")
    point = models.PointStruct(id=9_500_000, vector={"old": vector}, payload={"caption": "x"})
    with pytest.raises(UnsupportedError, match="is not cut over"):
        lone.upsert(name, [point])


def test_answers_show_vectors_of_the_applications_model(migrating, wrapped):
    vector = new_model(migrating.clipart.captions[:1])[0]
    assert wrapped.get_collection(migrating.name).config.params.vectors["old"].size == 256
    found = wrapped.query_points(migrating.name, query=vector, using="old", with_vectors=True)
    assert {len(point.vector["old"]) for point in found.points} == {256}


@pytest.mark.parametrize("given", ["new", "old"])
def test_writes_reach_both_vectors_with_their_provenance(migrating, client, wrapped, given):
    clipart = migrating.clipart
    before = marked(migrating.folder, Kind.ENCODED)
    fresh = 7_000_000 if given == "new" else 8_000_000
    images = clipart.images[:4]
    vectors = {"new": new_model, "old": old_model}[given](images)
    without_dashes = uuid.uuid4().hex
    points = [
        models.PointStruct(
            id=each,
            vector={"old": vectors[row].tolist()},
            payload={"image": images[row], "caption": clipart.captions[row]},
        )
        for row, each in enumerate([fresh, fresh + 1, fresh + 2, without_dashes])
    ]
    try:
        wrapped.upsert(migrating.name, points[:1], wait=True)
        wrapped.upload_points(migrating.name, points[1:3], wait=True)
        upsert = models.UpsertOperation(upsert=models.PointsList(points=points[3:]))
        wrapped.batch_update_points(migrating.name, [upsert])
        assert marked(migrating.folder, Kind.ENCODED) == before + 4
        wrapped.update_vectors(
            migrating.name,
            [
                models.PointVectors(id=points[row].id, vector={"old": vectors[row].tolist()})
                for row in (0, 3)
            ],
            wait=True,
        )
        assert marked(migrating.folder, Kind.ENCODED) == before + 4
        [record] = client.retrieve(migrating.name, [fresh], with_vectors=["old"])
        np.testing.assert_allclose(record.vector["old"], old_model(images[:1])[0], atol=2e-3)
        query = new_model(images[:1])[0]
        assert fresh in ids(wrapped.query_points(migrating.name, query, "old", limit=10))
    finally:
        wrapped.delete(migrating.name, [point.id for point in points], wait=True)
    assert marked(migrating.folder, Kind.ENCODED) == before
    if migrating.shadow:
        assert client.count(migrating.shadow).count == COUNT


def test_without_encoders_what_is_missing_is_projected(migrating, client):
    lone = wrap(client, migrating.name, folder=migrating.artefacts.folder)
    image, point = migrating.clipart.images[9], 9_000_001
    projected = marked(migrating.folder, Kind.PROJECTED)
    payload = {"image": image, "caption": "x"}
    vector = {"old": old_model([image])[0].tolist()}
    lone.upsert(migrating.name, [models.PointStruct(id=point, vector=vector, payload=payload)])
    try:
        assert marked(migrating.folder, Kind.PROJECTED) == projected + 1
    finally:
        lone.delete(migrating.name, [point], wait=True)


def test_the_asyncio_client_does_the_same(migrating, wrapped, opening, qdrant_url):
    vector = new_model(migrating.clipart.captions[:1])[0]

    async def found() -> list[int]:
        client = await wrap_async(
            AsyncQdrantClient(url=qdrant_url, check_compatibility=False), migrating.name, **opening
        )
        assert isinstance(client, AsyncQdrantClient)
        answer = await client.query_points(migrating.name, query=vector, using="old", limit=10)
        await client.close()
        return ids(answer)

    expected = ids(wrapped.query_points(migrating.name, query=vector, using="old", limit=10))
    assert asyncio.run(found()) == expected


def test_the_librarys_own_examples_run_on_the_migrated_collection(migrating, client, wrapped):
    """Insert, upload, search, filter, batch, scroll and delete as its documentation shows them."""
    name, clipart = migrating.name, migrating.clipart
    vectors, first = new_model(clipart.images[:30]), 6_000_000
    payload = [
        {"image": image, "caption": "red", "rand_number": row % 10}
        for row, image in enumerate(clipart.images[:30])
    ]
    ids_ = list(range(first, first + 30))
    try:
        wrapped.upsert(
            collection_name=name,
            points=[
                models.PointStruct(
                    id=ids_[row], vector={"old": vectors[row].tolist()}, payload=payload[row]
                )
                for row in range(10)
            ],
        )
        wrapped.upsert(
            name,
            models.Batch(
                ids=ids_[10:15],
                vectors={"old": vectors[10:15].tolist()},
                payloads=payload[10:15],
            ),
        )
        wrapped.upload_collection(
            collection_name=name,
            vectors={"old": vectors[15:25]},
            payload=payload[15:25],
            ids=ids_[15:25],
            batch_size=4,
            wait=True,
        )
        wrapped.upload_points(
            name,
            (
                models.PointStruct(
                    id=ids_[row], vector={"old": vectors[row].tolist()}, payload=payload[row]
                )
                for row in range(25, 30)
            ),
            wait=True,
        )
        red = models.FieldCondition(key="caption", match=models.MatchValue(value="red"))
        high = models.FieldCondition(key="rand_number", range=models.Range(gte=3))
        asked = models.Filter(must=[red, high])
        found = wrapped.query_points(
            collection_name=name, query=vectors[4], using="old", query_filter=asked, limit=5
        )
        assert ids(found)[0] == ids_[4]
        assert all(point.payload["rand_number"] >= 3 for point in found.points)
        assert wrapped.count(name, count_filter=asked).count == 21
        batch = wrapped.query_batch_points(
            collection_name=name,
            requests=[
                models.QueryRequest(query=vectors[row].tolist(), using="old", filter=asked, limit=1)
                for row in (4, 26)
            ],
        )
        assert [ids(each) for each in batch] == [[ids_[4]], [ids_[26]]]
        rows, after = wrapped.scroll(name, scroll_filter=asked, limit=21)
        assert (len(rows), after) == (21, None)
        wrapped.set_payload(name, {"color": "blue"}, points=ids_[:1])
        [record] = wrapped.retrieve(name, ids_[:1])
        assert record.payload["color"] == "blue"
        assert {len(each.vector) for each in client.retrieve(name, ids_, with_vectors=True)} == (
            {1} if migrating.shadow else {2}
        )
        wrapped.delete(name, points_selector=ids_[:15], wait=True)
        wrapped.delete(name, models.FilterSelector(filter=models.Filter(must=[red])), wait=True)
        assert client.count(name).count == COUNT
    finally:
        wrapped.delete(name, points_selector=ids_, wait=True)


def test_the_asyncio_client_refuses_what_it_cannot_translate(migrating, opening, qdrant_url):
    async def upload() -> None:
        bare = AsyncQdrantClient(url=qdrant_url, check_compatibility=False)
        client = await wrap_async(bare, migrating.name, **opening)
        try:
            with pytest.raises(UnsupportedError, match="upload_points") as refused:
                client.upload_points(migrating.name, [])
            assert "upsert" in refused.value.hint
            with pytest.raises(UnsupportedError, match="upload_collection"):
                client.upload_collection(migrating.name, [])
        finally:
            await client.close()

    asyncio.run(upload())


def test_after_the_cutover_it_is_still_the_same_collection(migrating, client):
    """The last test of this module: everything meets the new vectors under the old name."""
    name, clipart = migrating.name, migrating.clipart
    migrating.backfill(1)
    answer_inside("verify", "--yes", cwd=migrating.folder)
    route = ["--by-switch"] if migrating.shadow else []
    answer_inside("cutover", *route, "--yes", cwd=migrating.folder)
    lone = wrap(client, name, new_encoder=new_model, folder=migrating.artefacts.folder)
    assert lone.embeds_with == "new"
    point, other = clipart.ids[:2]
    new, old = (model(clipart.images[:1])[0] for model in (new_model, old_model))
    params = lone.get_collection(name).config.params.vectors
    assert {key: each.size for key, each in params.items()} == {"old": 256}
    for records in (
        lone.scroll(name, limit=5, with_vectors=["old"])[0],
        lone.retrieve(name, [point], True, True),
        lone.query_points(name, new, "old", with_vectors=["old"], limit=5).points,
        lone.query_points(name, other, using="old", with_vectors=True, limit=5).points,
        lone.query_points_groups(
            name, "caption", query=new, using="old", with_vectors=["old"], limit=2
        )
        .groups[0]
        .hits,
    ):
        assert records
        assert all({k: len(v) for k, v in each.vector.items()} == {"old": 256} for each in records)
        assert all("_xbtmigrate" not in each.payload for each in records)
    recommended = models.RecommendQuery(recommend=models.RecommendInput(positive=[new.tolist()]))
    assert ids(lone.query_points(name, recommended, using="old"))[0] == point
    assert lone.count(name).count == COUNT
    with pytest.raises(UnsupportedError, match="is cut over"):
        lone.query_points(name, old, "old")
    lone.delete_vectors(name, ["old"], [point], wait=True)
    [record] = lone.retrieve(name, [point], with_vectors=True)
    assert not record.vector
