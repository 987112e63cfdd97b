"""A searcher over a real collection: before, during and after a backfill, in both layouts."""

from __future__ import annotations

import asyncio
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient, models

from tests.support.migrating import Migrating, new_model, old_model
from xbtmigrate import Projector
from xbtmigrate.errors import ArtefactError, ConfigError, EncoderError, UnsupportedError
from xbtmigrate.scoring.centring import Centring
from xbtmigrate.serving import AsyncMigrationSearcher, MigrationSearcher, wrap
from xbtmigrate.types import Direction, normalized

COUNT, ASKED = 450, 40

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def client(qdrant_url: str):
    client = QdrantClient(url=qdrant_url, check_compatibility=False)
    yield client
    client.close()


@pytest.fixture(scope="module", params=["in_place", "shadow"])
def layout(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def migrating(layout: str, client: QdrantClient, qdrant_url: str, tmp_path_factory) -> Migrating:
    """A migration before anything is written; the tests of this module go on in their order."""
    folder = tmp_path_factory.mktemp("searcher")
    return Migrating.start(client, qdrant_url, folder, layout=layout, count=COUNT)


@pytest.fixture(scope="module")
def searcher(migrating: Migrating, client: QdrantClient) -> MigrationSearcher:
    return MigrationSearcher.open(
        client,
        migrating.name,
        new_encoder=new_model,
        old_encoder=old_model,
        folder=migrating.artefacts.folder,
        serving="calibrated",
    )


def ids(answer) -> list[int]:
    return [point.id for point in answer]


def asked(migrating: Migrating) -> list[str]:
    return migrating.clipart.captions[:: COUNT // ASKED]


def test_before_the_backfill_the_old_vectors_answer(migrating, client, searcher):
    texts = asked(migrating)
    expected = migrating.nearest(old_model(texts), migrating.clipart.old, 10)
    found = [searcher.search(text=text) for text in texts]
    assert {answer.serving for answer in found} == {"keep"}
    assert [ids(answer) for answer in found] == expected

    bridge = Projector.load(migrating.artefacts.projector_folder(Direction.BRIDGE))
    expected = migrating.nearest(bridge.apply(new_model(texts)), migrating.clipart.old, 10)
    with pytest.raises(UnsupportedError, match="is not cut over") as refused:
        searcher.search(vector=new_model(texts[:1])[0])
    assert 'serving="bridge"' in refused.value.hint
    bridged = MigrationSearcher.open(
        client, migrating.name, folder=migrating.artefacts.folder, serving="bridge"
    )
    found = [bridged.search(vector=new_model([text])[0]) for text in texts]
    assert {answer.serving for answer in found} == {"bridge"}
    assert [ids(answer) for answer in found] == expected


def test_the_plan_warns_of_an_index_that_is_made_with_little_effort(migrating):
    plan = migrating.artefacts.load_plan()
    given = [each for each in plan.warnings if "indexed with ef_construct 100" in each]
    assert len(given) == (plan.target.layout == "in_place")


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_the_fused_answers_are_those_of_the_evaluation(migrating, client, searcher, fraction):
    migrating.backfill(fraction)
    situation = searcher.reload()
    texts = asked(migrating)
    encoded = migrating.encoded(client, situation.new.collection)
    assert encoded.mean() == pytest.approx(fraction, abs=0.01)
    found = [searcher.search(text=text) for text in texts]
    assert {answer.serving for answer in found} == {"calibrated"}
    expected = migrating.expected(texts, encoded, 10)
    same = [a == b for a, b in zip([ids(answer) for answer in found], expected, strict=True)]
    assert np.mean(same) >= 0.95  # equal scores may differ in order
    schema = client.get_collection(migrating.name).payload_schema
    assert len([each for each in schema if ".hub_" in each]) == (not migrating.shadow)

    alone = MigrationSearcher.open(
        client,
        migrating.name,
        new_encoder=new_model,
        folder=migrating.artefacts.folder,
        serving="calibrated_bridge",
    )
    found = [alone.search(text=text) for text in texts]
    assert {answer.serving for answer in found} == {"calibrated_bridge"}
    expected = migrating.expected(texts, encoded, 10, old_model_runs=False)
    same = [a == b for a, b in zip([ids(answer) for answer in found], expected, strict=True)]
    assert np.mean(same) >= 0.95


def test_single_centres_its_queries_by_what_is_re_encoded(migrating, client, layout):
    new, texts = migrating.clipart.new, asked(migrating)
    mean = normalized(new.mean(axis=0, keepdims=True))[0]
    forward = Projector.load(migrating.artefacts.projector_folder(Direction.FORWARD))
    # Each searcher starts after `fraction=1.0`: the last strength is the one that counts.
    strengths = [0.0] * 10 + [0.8]
    fitted = Centring(mean.tolist(), strengths, [strengths] * 2, forward.digest, 40, "tests")
    migrating.artefacts.save_centring(fitted)
    opening = {"folder": migrating.artefacts.folder, "serving": "single"}
    queries = new_model(texts)
    centred = queries - 0.8 * (queries @ mean)[:, None] * mean
    opened = MigrationSearcher.open(client, migrating.name, **opening)
    # Until the switch a shadow may lack points, so both spaces are searched.
    serving = opened.situation.choose(old_model=True, new_model=True)
    assert (serving.away is None) == (layout == "shadow")
    if layout == "shadow":
        return
    for options, expected in (({}, centred), ({"centre_queries": False}, queries)):
        opened = MigrationSearcher.open(client, migrating.name, **opening, **options)
        found = [opened.search(vector=each) for each in queries]
        assert [ids(answer) for answer in found] == migrating.nearest(expected, new, 10)
    wrapped = wrap(client, migrating.name, serving="single", folder=migrating.artefacts.folder)
    found = wrapped.query_points(migrating.name, queries[0].tolist(), using="old").points
    assert [point.id for point in found] == migrating.nearest(centred[:1], new, 10)[0]
    # Another projector's strengths are not for this gallery.
    migrating.artefacts.save_centring(replace(fitted, forward="0" * 64))
    opened = MigrationSearcher.open(client, migrating.name, **opening)
    assert opened.situation.away is None
    migrating.artefacts.save_centring(None)


def test_an_application_elsewhere_needs_no_folder(
    migrating, client, searcher, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    elsewhere = MigrationSearcher.open(
        client,
        migrating.name,
        new_encoder=new_model,
        old_encoder=old_model,
        serving="calibrated",
    )
    for text in asked(migrating)[:10]:
        assert ids(elsewhere.search(text=text)) == ids(searcher.search(text=text))
    with pytest.raises(ArtefactError, match="no migration of 'absent'"):
        MigrationSearcher.open(client, "absent")


def test_filter_payload_vectors_and_pages(migrating, searcher):
    text = asked(migrating)[3]
    chosen = [migrating.clipart.ids[row] for row in range(0, COUNT, 7)]
    condition = models.Filter(must=[models.HasIdCondition(has_id=chosen)])
    filtered = searcher.search(text=text, filter=condition, limit=20, with_vectors=["old"])
    assert set(ids(filtered)) <= set(chosen)
    assert len(filtered) == 20
    assert all(len(point.vector["old"]) == 128 for point in filtered)
    assert all("caption" in point.payload for point in filtered)
    bare = searcher.search(text=text, with_payload=False)
    assert all(not point.payload for point in bare)
    some = searcher.search(text=text, with_payload=["caption"])
    assert all(set(point.payload) == {"caption"} for point in some)
    whole = ids(searcher.search(text=text, limit=30))
    pages = [ids(searcher.search(text=text, limit=10, offset=at)) for at in (0, 10, 20)]
    assert [each for page in pages for each in page] == whole
    assert len(set(whole)) == 30


def test_a_threshold_of_the_old_scale_lets_as_many_through(migrating, searcher):
    texts = asked(migrating)
    old = old_model(texts) @ migrating.clipart.old.T
    top = -np.sort(-old, axis=1)[:, :10]
    threshold = float(np.median(top))
    before = (top >= threshold).mean()
    found = [searcher.search(text=text, score_threshold=threshold) for text in texts]
    after = np.mean([len(answer) for answer in found]) / 10
    assert after == pytest.approx(before, abs=0.15)


@pytest.mark.parametrize("serving", ["keep", "bridge", "single", "merge", "slerp"])
def test_a_serving_that_is_asked_for_is_served(migrating, client, serving):
    chosen = MigrationSearcher.open(
        client,
        migrating.name,
        new_encoder=new_model,
        old_encoder=old_model,
        folder=migrating.artefacts.folder,
        serving=serving,
    )
    texts = asked(migrating)
    found = [chosen.search(text=text) for text in texts]
    assert {answer.serving for answer in found} == {serving}
    clipart, bridge = migrating.clipart, migrating.artefacts.projector_folder(Direction.BRIDGE)
    expected = migrating.nearest(new_model(texts), clipart.new, 10)  # every point is re-encoded
    if serving == "keep":
        expected = migrating.nearest(old_model(texts), clipart.old, 10)
    if serving == "bridge":
        bridged = Projector.load(bridge).apply(new_model(texts))
        expected = migrating.nearest(bridged, clipart.old, 10)
    same = [ids(a) == b for a, b in zip(found, expected, strict=True)]
    assert np.mean(same) >= 0.95


def test_a_point_without_a_new_vector_is_found_by_its_old_one(migrating, client, searcher):
    clipart, new_id = migrating.clipart, 10_000_001
    text = clipart.captions[5]
    vector = old_model([text])[0]
    point = models.PointStruct(
        id=new_id, vector={"old": vector.tolist()}, payload={"caption": text}
    )
    client.upsert(migrating.name, [point], wait=True)
    try:
        searcher.reload()
        assert new_id in ids(searcher.search(text=text))
        single = MigrationSearcher.open(
            client,
            migrating.name,
            new_encoder=new_model,
            folder=migrating.artefacts.folder,
            serving="single",
        )
        assert single.search(text=text, limit=COUNT).serving == "single"
        assert new_id in ids(single.search(text=text, limit=COUNT))
    finally:
        client.delete(migrating.name, [new_id], wait=True)


def test_the_asynchronous_searcher_gives_the_same_answers(migrating, searcher, qdrant_url):
    texts = asked(migrating)[:10]

    async def answers() -> list[list[int]]:
        client = AsyncQdrantClient(url=qdrant_url, check_compatibility=False)
        twin = await AsyncMigrationSearcher.open(
            client,
            migrating.name,
            new_encoder=new_model,
            old_encoder=old_model,
            folder=migrating.artefacts.folder,
            serving="calibrated",
        )
        found = await asyncio.gather(*(twin.search(text=text) for text in texts))
        await client.close()
        return [ids(answer) for answer in found]

    assert asyncio.run(answers()) == [ids(searcher.search(text=text)) for text in texts]


def test_vectors_of_the_wrong_model_are_refused(migrating, client, searcher):
    single = MigrationSearcher.open(
        client, migrating.name, folder=migrating.artefacts.folder, serving="single"
    )
    with pytest.raises(EncoderError, match="128 numbers was given as a query of the new model"):
        single.search(vector=migrating.clipart.old[0])
    with pytest.raises(ConfigError, match="one of text, image and vector"):
        searcher.search(text="x", vector=migrating.clipart.new[0])


def test_what_cannot_be_read_again_leaves_the_searcher_as_it_was(migrating, client, tmp_path: Path):
    folder = tmp_path / "copy"
    source = migrating.artefacts.folder
    for path in (each for each in source.rglob("*") if each.is_file()):
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    renamed = folder.rename(tmp_path / source.name)
    watching = MigrationSearcher.open(
        client,
        migrating.name,
        new_encoder=new_model,
        folder=renamed,
        interval=0,
        serving="single",
    )
    before = watching.search(text=asked(migrating)[0])
    (renamed / "plan.json").write_text("{}")
    watching.core._look_at = 0
    with pytest.warns(UserWarning, match="serving as before"):
        after = watching.search(text=asked(migrating)[0])
    assert ids(after) == ids(before)
    assert "plan.json" in watching.problem


def test_a_warning_is_given_once(migrating, client):
    lone = MigrationSearcher.open(
        client,
        migrating.name,
        old_encoder=old_model,
        folder=migrating.artefacts.folder,
        serving="calibrated",
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = [lone.search(text=text) for text in asked(migrating)[:3]]
    assert {answer.serving for answer in found} == {"keep"}
    assert all(answer.note.startswith("calibrated needs the new model") for answer in found)
    assert len([each for each in caught if "needs the new model" in str(each.message)]) == 1


def test_nothing_changes_before_the_cutover_unless_it_is_asked_for(migrating, client):
    usual = MigrationSearcher.open(
        client,
        migrating.name,
        new_encoder=new_model,
        old_encoder=old_model,
        folder=migrating.artefacts.folder,
    )
    assert usual.situation.phase == "backfilled"
    texts = asked(migrating)
    found = [usual.search(text=text) for text in texts]
    assert {(answer.serving, answer.note) for answer in found} == {("keep", "")}
    assert [ids(answer) for answer in found] == migrating.nearest(
        old_model(texts), migrating.clipart.old, 10
    )
    assert all("_xbtmigrate" not in point.payload for answer in found for point in answer)
