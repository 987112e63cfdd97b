"""What a cutover, a rollback and a finalize may be told, and what stands against them."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from qdrant_client import models

from tests.support.clipart import Clipart
from tests.support.command import PROGRAM, SETTINGS, answer_inside
from tests.support.switching import Place
from xbtmigrate.backfill.loop import Backfill
from xbtmigrate.migration.switch import read_switch
from xbtmigrate.qdrant.journal.kept_hashes import forget_ledger, has_ledger
from xbtmigrate.qdrant.wire.connect import connect

COUNT = 200
EMBEDDED = ["embedded-in_place", "embedded-shadow"]


@pytest.fixture(scope="module")
def clipart() -> Clipart:
    return Clipart.load(COUNT)


@pytest.fixture
def place(request: pytest.FixtureRequest, clipart: Clipart, tmp_path: Path) -> Place:
    made = Place(request.param, "", tmp_path, clipart)
    made.run("verify")
    return made


def refused(place: Place, *command: str) -> list[str]:
    """The gates that say no."""
    said = place.run(*command, expect=3)
    assert (said["phase"], said["status"]) == ("verified", "a check failed")
    return [gate["name"] for gate in said["gates"] if not gate["passed"]]


@pytest.mark.parametrize("place", EMBEDDED[:1], indirect=True)
def test_gates_of_quality_and_age(place: Place, clipart: Clipart):
    asked = {"text": clipart.captions, "relevant": [[str(each)] for each in clipart.ids]}
    pq.write_table(pa.table(asked), place.folder / "q.parquet")
    quality = ("--queries", "q.parquet", "--gate")
    gate = "recall@10>=0.99"
    assert refused(place, "cutover", "--yes", *quality, gate) == [f"quality {gate}"]
    assert refused(place, "cutover", "--yes", "--max-age", "0") == ["verified"]
    assert place.run("cutover", *quality, "recall@10>=0.01")["ready"]


@pytest.mark.parametrize("place", EMBEDDED[1:], indirect=True)
def test_without_an_alias_applications_follow_the_switch(place: Place, clipart: Clipart):
    no_alias = place.run("cutover", "--alias", "other", "--yes", expect=3)
    assert "'other' is not an alias" in no_alias["error"]["message"]
    assert f"`xbtmigrate cutover --alias {place.alias}`" in no_alias["error"]["hint"]
    done = place.run("cutover", "--yes", "--by-switch")
    assert (done["phase"], done["alias"]) == ("cut_over", None)
    assert place.leads_to() == place.name
    switch = read_switch(next(place.folder.glob(".xbtmigrate/*")))
    assert switch is not None
    assert (switch.query_collection, switch.query_vector) == (place.target, "new")
    still = place.run("finalize", "--confirm", place.name, "--no-snapshot", expect=3)
    assert f"{place.alias} still lead to '{place.name}'" in still["error"]["message"]


@pytest.mark.parametrize("place", EMBEDDED[1:], indirect=True)
def test_the_end_is_confirmed_by_typing_the_name(place: Place, clipart: Clipart):
    place.run("cutover", "--yes")
    code, said = type_name(place, f"{place.name}x", "--no-snapshot")
    assert code == 2, said
    code, said = type_name(place, place.name, "--no-snapshot")
    assert code == 0, said
    assert "Type the collection's name" in said
    client = place.open()
    assert not client.collection_exists(place.name)
    assert client.count(place.target).count == len(clipart.ids)
    client.close()


def type_name(place: Place, name: str, *arguments: str) -> tuple[int, str]:
    """Answer the question of `finalize` at a terminal; returns the code and all that was said."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, "finalize", *arguments],
        cwd=place.folder,
        env=os.environ | SETTINGS,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    os.close(theirs)
    os.write(ours, f"{name}\n".encode())
    said, _ = process.communicate(timeout=120)
    os.close(ours)
    return process.returncode, said


@pytest.mark.parametrize("place", EMBEDDED, indirect=True)
def test_what_the_old_model_cannot_embed_stays_behind_if_the_user_says_so(
    place: Place, clipart: Clipart
):
    place.run("cutover", "--yes")
    client = place.open()
    strange = {"image": "of no table", "caption": "of no table"}
    vector = {"new": clipart.new[0].tolist()}
    point = models.PointStruct(id=900_001, vector=vector, payload=strange)
    client.upsert(place.live, [point], wait=True)
    client.close()
    looked = place.run("rollback", expect=3)
    assert (looked["cannot_be_carried"], looked["left_behind"]) == (1, ["900001"])
    assert looked["next"].endswith("--leave-behind")
    stopped = place.run("rollback", "--yes", expect=3)
    assert "900001" in stopped["error"]["message"]
    assert place.leads_to() == place.target
    back = place.run("rollback", "--yes", "--leave-behind")
    assert (back["phase"], back["left_behind"]) == ("rolled_back", ["900001"])
    assert place.leads_to() == place.name
    old = place.points(place.name, "old")
    left = {point for point, (vector, _) in old.items() if vector is None}
    assert set(clipart.ids) <= old.keys() - left
    assert left == (set() if place.shadow else {900_001})
    assert 900_001 in place.points(place.target, "new")


@pytest.mark.parametrize("place", EMBEDDED[1:], indirect=True)
def test_a_lost_ledger_stops_a_rollback_unless_the_user_says_so(place: Place):
    place.run("cutover", "--yes")
    file = next(place.folder.glob(".xbtmigrate/*/ledger*"))
    file.unlink()
    assert place.run("rollback")["cannot_be_carried"] == 0, "there is one in Qdrant"
    file.unlink()
    with connect(f"path:{place.folder}/qdrant") as connection:
        forget_ledger(connection, file.parent.name)
    lost = place.run("rollback", "--yes", expect=1)
    assert lost["error"]["type"] == "ArtefactError"
    assert place.leads_to() == place.target
    assert place.run("rollback", "--yes", "--leave-behind")["phase"] == "rolled_back"
    assert place.leads_to() == place.name


@pytest.mark.server
@pytest.mark.parametrize("layout", ["in_place", "shadow"])
def test_another_machine_rolls_back_what_this_one_cut_over(
    layout: str, clipart: Clipart, qdrant_url: str, tmp_path: Path
):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    place = Place(f"server-{layout}", qdrant_url, here, clipart)
    place.run("verify")
    place.run("cutover", "--yes")
    place.upsert(clipart.ids[0], 1, "new")
    place.delete(clipart.ids[2])
    shutil.copy(here / "xbtmigrate.toml", there)
    answer_inside("doctor", "--yes", cwd=there)
    back = answer_inside("rollback", "--yes", cwd=there)
    assert (back["phase"], back["carried_back"]) == ("rolled_back", 1)
    old = place.points(place.name, "old")
    assert old.keys() == set(clipart.ids) - {clipart.ids[2]}
    vector, payload = old[clipart.ids[0]]
    assert vector is not None
    np.testing.assert_allclose(vector, clipart.old[1], atol=2e-6)
    assert payload == clipart.payloads[1]
    # Back here, what the other machine has switched and stored counts.
    place.run("verify", "--yes")
    assert place.run("cutover", "--yes")["phase"] == "cut_over"
    answer_inside("doctor", "--yes", cwd=there)
    answer_inside("finalize", "--confirm", place.name, "--notice", "0", cwd=there)
    with connect(qdrant_url) as connection:
        assert not has_ledger(connection, next(here.glob(".xbtmigrate/*")).name)


@pytest.mark.server
@pytest.mark.parametrize("layout", ["in_place", "shadow"])
def test_ready_and_caught_up_until_the_file_says_go(
    layout: str, clipart: Clipart, qdrant_url: str, tmp_path: Path
):
    """An application that knows nothing of it writes the old way all the while, and stops later."""
    place = Place(f"server-{layout}", qdrant_url, tmp_path, clipart)
    place.run("verify")
    before = len(clipart.ids)
    writer = OldWay(place)
    process = subprocess.Popen(
        [*PROGRAM, "cutover", "--yes", "--go-file", "go", "--json"],
        cwd=tmp_path,
        env=os.environ | SETTINGS,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert any("ready; waiting for go" in line for line in process.stderr)
        with writer:
            assert answer_inside("status", cwd=tmp_path)["phase"] == "verified"
            assert place.leads_to() == place.name
            writer.write_some(10)
            (tmp_path / "go").touch()
            said, _ = process.communicate(timeout=120)
            assert process.returncode == 0, said
            writer.write_some(5)
    finally:
        process.kill()
    assert writer.wrong == []
    assert place.leads_to() == place.target
    again = place.run("cutover", "--yes")
    assert again["phase"] == "cut_over"
    assert again["carried_over"] >= 5
    after = place.points(place.target, "new")
    assert len(after) == before + len(writer.rows)
    for point, row in writer.rows.items():
        vector, payload = after[point]
        assert payload == clipart.payloads[row]
        assert vector @ clipart.new[row] > 1 - 1e-4
    assert place.run("cutover", "--yes")["carried_over"] == 0


@pytest.mark.server
@pytest.mark.parametrize("layout", ["in_place", "shadow"])
def test_what_is_written_right_behind_the_last_sweep_is_carried_over(
    layout: str,
    clipart: Clipart,
    qdrant_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    place = Place(f"server-{layout}", qdrant_url, tmp_path, clipart)
    place.run("verify")
    sweep, written = Backfill.catch_up, {900_001: 1, clipart.ids[0]: 5}

    def sweep_then_write(loop: Backfill) -> int:
        left = sweep(loop)
        for point, row in written.items():
            place.upsert(point, row, "old", place.name)
        return left

    monkeypatch.setattr(Backfill, "catch_up", sweep_then_write)
    assert place.run("cutover", "--yes")["carried_over"] == len(written)
    after = place.points(place.target, "new")
    for point, row in written.items():
        vector, payload = after[point]
        assert payload == clipart.payloads[row]
        assert vector @ clipart.new[row] > 1 - 1e-4


class OldWay:
    """Writes new points with the old model's vectors into the collection by its real name."""

    def __init__(self, place: Place) -> None:
        self.place, self.rows = place, dict[int, int]()
        self.wrong: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> OldWay:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def write_some(self, count: int) -> None:
        """Wait until so many more points are written."""
        until = len(self.rows) + count
        while len(self.rows) < until and not self.wrong:
            self._stop.wait(0.05)

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            point = 900_000 + len(self.rows)
            row = point % COUNT
            try:
                self.place.upsert(point, row, "old", self.place.name)
                self.rows[point] = row
            except Exception as error:  # noqa: BLE001
                self.wrong.append(repr(error))
