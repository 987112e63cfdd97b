"""verify finds whatever is wrong with a point, says nothing else, and repairs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from qdrant_client import QdrantClient, models

from tests.support.checks import check_vectors
from tests.support.clipart import Clipart, write_config
from tests.support.collections import fresh_name
from tests.support.command import answer_inside, inside
from xbtmigrate.backfill.vector_cache import VectorCache
from xbtmigrate.config import load_config
from xbtmigrate.qdrant.gallery.in_place import InPlaceGallery
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.verify.verify import VerifyOptions, verify
from xbtmigrate.workflows.workspace import Workspace

COUNT, ENCODED = 300, 150
MODES = ["server-in_place", "server-shadow", "embedded-in_place", "embedded-shadow"]


@pytest.fixture(scope="module")
def clipart() -> Clipart:
    return Clipart.load(COUNT)


class Place:
    """A backfilled collection in one mode, opened for a moment at a time."""

    def __init__(self, mode: str, url: str, folder: Path, clipart: Clipart) -> None:
        kind, self.layout = mode.split("-")
        self.folder, self.name, self.embedded = folder, fresh_name(), kind == "embedded"
        self._url = url if kind == "server" else ""
        self.target = self.name if self.layout == "in_place" else f"{self.name}__xbtmigrate"
        client = self.open()
        clipart.fill(client, self.name, both=self.layout == "in_place")
        client.close()
        write_config(folder, self._url or "path:qdrant", self.name, layout=self.layout)
        answer_inside("plan", cwd=folder)
        answer_inside("train-projector", "--kind", "ridge", "--pairs", "200", cwd=folder)
        answer_inside("backfill", "--online", "--fraction", "0.5", cwd=folder)

    def open(self) -> QdrantClient:
        if self._url:
            return QdrantClient(url=self._url, check_compatibility=False)
        return QdrantClient(path=str(self.folder / "qdrant"))

    def check(self, clipart: Clipart, encoded: int) -> None:
        client = self.open()
        check_vectors(client, self.target, clipart, self.folder, encoded=encoded)
        client.close()


@pytest.fixture(params=MODES)
def place(request: pytest.FixtureRequest, clipart: Clipart, tmp_path: Path) -> Place:
    server = request.param.startswith("server")
    url = request.getfixturevalue("qdrant_url") if server else ""
    return Place(request.param, url, tmp_path, clipart)


def turn(client: QdrantClient, place: Place, point: int) -> None:
    """Give a point another new vector; the mark stays."""
    vector = np.roll(np.eye(1, 256, dtype=np.float32)[0], point).tolist()
    client.update_vectors(
        place.target, [models.PointVectors(id=point, vector={"new": vector})], wait=True
    )


@pytest.mark.server
def test_it_is_clean_then_finds_every_fault_and_repairs_it(place: Place, clipart: Clipart):
    clean = answer_inside("verify", "--reencode", str(COUNT), cwd=place.folder)
    assert (clean["status"], clean["phase"], clean["checked"]) == ("clean", "verified", COUNT)
    assert clean["compared"] == {"projected": COUNT - ENCODED, "encoded": ENCODED}
    assert min(clean["least_cosine"].values()) > 0.9999
    kept = clean["baseline"]
    assert kept["same"] + kept["rounded"] == kept["points"] > 200
    assert kept["rounded"] == 0 or place.embedded
    assert sum(clean["mismatches"].values()) == 0
    assert place.embedded or clean["index_recall"]["new"] > 0.99
    assert answer_inside("status", cwd=place.folder)["phase"] == "verified"

    client = place.open()
    for point in clipart.ids[:3]:
        turn(client, place, point)
    client.set_payload(place.name, {"image": clipart.images[9]}, points=[clipart.ids[3]])
    expected = {"wrong_vector": 3, "stale": 1}
    if place.layout == "in_place":
        # The mark names the vector: one that is not the mark's own counts as not made.
        expected = {"stale": 4}
        client.delete_vectors(place.target, ["new"], points=[clipart.ids[4]])
        expected["missing"] = 1
    else:
        client.delete(place.target, [clipart.ids[4]])
        client.set_payload(place.target, {"caption": "other"}, points=[clipart.ids[5]])
        point = models.PointStruct(id=999_999, vector={"new": [1.0] * 256}, payload={})
        client.upsert(place.target, [point])
        expected |= {"missing": 1, "unlike_source": 1, "stray": 1}
    client.close()

    found = answer_inside("verify", "--reencode", str(COUNT), cwd=place.folder, expect=3)
    assert {fault: count for fault, count in found["mismatches"].items() if count} == expected
    assert (found["status"], found["phase"]) == ("not clean", "backfilled")
    assert {example["id"] for example in found["examples"]} >= {str(i) for i in clipart.ids[:5]}
    assert len(found["reasons"]) == len({"stale", "wrong_vector"} & expected.keys())

    client = place.open()
    client.set_payload(place.name, {"image": clipart.images[3]}, points=[clipart.ids[3]])
    client.close()
    repaired = answer_inside("verify", "--reencode", str(COUNT), "--yes", cwd=place.folder)
    assert (repaired["status"], repaired["phase"]) == ("clean", "verified")
    assert repaired["repaired"] >= sum(expected.values()) - 1
    place.check(clipart, repaired["encoded"])


@pytest.mark.server
@pytest.mark.parametrize("place", ["server-shadow"], indirect=True)
def test_a_sample_a_stop_settings_and_an_old_vector_that_changed(place: Place, clipart: Clipart):
    pages, config = 0, load_config(place.folder / "xbtmigrate.toml")

    def stop_at_once() -> str:
        nonlocal pages
        pages += 1
        return "interrupted"

    sampled = answer_inside("verify", "--sample", "100", cwd=place.folder)
    assert 60 < sampled["checked"] < 140
    client = place.open()
    client.delete_payload(place.name, ["caption"], points=[clipart.ids[7]])
    client.update_vectors(
        place.name,
        [models.PointVectors(id=clipart.ids[8], vector={"old": clipart.old[9].tolist()})],
    )
    client.create_payload_index(place.target, "caption", models.PayloadSchemaType.KEYWORD)
    strict = models.StrictModeConfig(enabled=True, max_query_limit=100)
    client.update_collection(place.name, strict_mode_config=strict)
    client.close()

    stopped = verify(config, VerifyOptions(), should_stop=stop_at_once, report=lambda *_: None)
    assert (stopped["status"], stopped["checked"]) == ("stopped: interrupted", 100)
    seen: list[tuple[str, int, int]] = []
    rest = verify(
        config, VerifyOptions(), should_stop=lambda: "", report=lambda *step: seen.append(step)
    )
    assert 100 < seen[0][1] <= 200, "it went on behind the first page"
    document = json.loads(json.dumps(rest))
    assert (document["clean"], document["checked"]) == (False, COUNT)
    assert document["mismatches"]["stale"] == 2
    assert document["baseline"]["replaced"] in ([], [str(clipart.ids[8])])
    text = " ".join(document["settings"])
    assert "payload index 'caption'" in text
    assert "strict_mode_config" in text


def _trained(folder: Path, clipart: Clipart) -> tuple[str, VectorCache]:
    """Lead an embedded migration to its training, which has paid for some vectors."""
    name = fresh_name()
    client = QdrantClient(path=str(folder / "qdrant"))
    clipart.fill(client, name)
    client.close()
    write_config(folder, "path:qdrant", name, layout="in_place")
    answer_inside("plan", cwd=folder)
    answer_inside("train-projector", "--kind", "ridge", "--pairs", "200", cwd=folder)
    config = load_config(folder / "xbtmigrate.toml")
    return name, Workspace(config, Models(config)).cache


def _check(folder: Path, name: str, clipart: Clipart) -> None:
    client = QdrantClient(path=str(folder / "qdrant"))
    check_vectors(client, name, clipart, folder, encoded=COUNT)
    client.close()


def test_rows_of_the_cache_that_were_swapped_are_never_written(clipart: Clipart, tmp_path: Path):
    name, known = _trained(tmp_path, clipart)
    for part in known.folder.iterdir():
        table = pq.read_table(part)
        swapped = table.set_column(1, "vector", table["vector"].take(np.arange(len(table))[::-1]))
        pq.write_table(swapped, part)
    code, _, err = inside("backfill", "--online", "--fraction", "1", cwd=tmp_path)
    assert code == 0
    assert "set aside" in err
    assert any(part.suffix == ".wrong" for part in known.folder.iterdir())
    _check(tmp_path, name, clipart)


def test_repair_takes_no_vector_that_was_found_wrong_and_looks_at_all_of_them(
    clipart: Clipart, tmp_path: Path
):
    name, known = _trained(tmp_path, clipart)
    hashes = [each.decode() for each in known._hashes]
    known.add(hashes, known.find(hashes)[0][::-1])
    answer_inside("backfill", "--online", "--fraction", "1", cwd=tmp_path)
    found = answer_inside("verify", "--reencode", "20", cwd=tmp_path, expect=3)
    assert 0 < found["mismatches"]["wrong_vector"] < 40
    repaired = answer_inside("verify", "--reencode", "20", "--yes", cwd=tmp_path)
    assert repaired["repaired"] > 100
    _check(tmp_path, name, clipart)
    assert answer_inside("verify", "--reencode", str(COUNT), cwd=tmp_path)["status"] == "clean"


@pytest.mark.server
def test_old_vectors_that_the_application_replaces_do_not_stand_in_the_way(
    place: Place, clipart: Clipart
):
    """The next backfill makes their points again, and what verify compares with is renewed."""
    assert answer_inside("verify", cwd=place.folder)["clean"]
    client = place.open()
    records = client.retrieve(place.target, clipart.ids, with_payload=True)
    first = {each.payload["_xbtmigrate"]["kind"]: each.id for each in reversed(records)}
    for row, point in enumerate(first.values()):
        vector = {"old": clipart.old[-1 - row].tolist()}
        client.update_vectors(place.name, [models.PointVectors(id=point, vector=vector)], wait=True)
    client.close()
    found = answer_inside("verify", cwd=place.folder, expect=3)
    due = {each["id"] for each in found["examples"] if each["fault"] == "stale"}
    shadow = place.layout == "shadow"
    assert due == {str(first[kind]) for kind in first if shadow or kind == "projected"}
    changed = found["baseline"]["vectors_changed"]
    assert changed == ([] if shadow else [str(first["encoded"])])
    answer_inside("backfill", "--online", cwd=place.folder)
    clean = answer_inside("verify", cwd=place.folder)
    assert sum(clean["mismatches"].values()) == 0
    assert clean["baseline"]["vectors_changed"] == []
    again = answer_inside("verify", cwd=place.folder)
    assert (again["clean"], again["baseline"]["replaced"]) == (True, [])


@pytest.mark.server
@pytest.mark.parametrize("place", ["server-in_place"], indirect=True)
def test_what_nobody_can_tell_is_accepted_once_and_a_fault_of_each_write_never_passes(
    place: Place, clipart: Clipart, monkeypatch: pytest.MonkeyPatch
):
    client = place.open()
    records = client.retrieve(place.target, clipart.ids, with_payload=True)
    point = next(each.id for each in records if each.payload["_xbtmigrate"]["kind"] == "encoded")

    def damage(row: int) -> None:
        vector = models.PointVectors(id=point, vector={"old": clipart.old[row].tolist()})
        client.update_vectors(place.name, [vector], wait=True)

    damage(-1)
    refused = answer_inside("verify", cwd=place.folder, expect=3)
    assert refused["next"] == "xbtmigrate backfill --online"
    assert "--accept-replaced-vectors 1" in refused["reasons"][0]
    assert answer_inside("verify", "--accept-replaced-vectors", "1", cwd=place.folder)["clean"]
    assert answer_inside("verify", cwd=place.folder)["baseline"]["vectors_changed"] == []

    rows = iter(range(200, 300))
    write = InPlaceGallery.write

    def damaging(gallery: InPlaceGallery, *arguments: object) -> object:
        try:
            return write(gallery, *arguments)
        finally:
            damage(next(rows))

    monkeypatch.setattr(InPlaceGallery, "write", damaging)
    damage(-2)
    answer_inside("backfill", "--online", cwd=place.folder)
    refused = answer_inside("verify", cwd=place.folder, expect=3)
    assert refused["baseline"]["vectors_changed"] == [str(point)]
    client.close()


@pytest.mark.server
def test_it_is_refused_before_the_backfill_is_through(
    clipart: Clipart, qdrant_url: str, tmp_path: Path
):
    name = fresh_name()
    client = QdrantClient(url=qdrant_url, check_compatibility=False)
    clipart.fill(client, name)
    client.close()
    write_config(tmp_path, qdrant_url, name)
    answer_inside("plan", cwd=tmp_path)
    code, _, err = inside("verify", cwd=tmp_path)
    assert (code, "nothing has been backfilled yet" in err) == (3, True)
