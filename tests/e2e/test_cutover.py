"""cutover and rollback: what applications read changes in one step, and no write is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.clipart import Clipart
from tests.support.switching import MODES, Place
from xbtmigrate.migration.switch import Switch, read_switch

COUNT = 300
pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def clipart() -> Clipart:
    return Clipart.load(COUNT + 20)


@pytest.fixture(params=MODES)
def place(request: pytest.FixtureRequest, clipart: Clipart, tmp_path: Path) -> Place:
    server = request.param.startswith("server")
    url = request.getfixturevalue("qdrant_url") if server else ""
    rows = slice(0, COUNT)
    few = Clipart(
        clipart.ids[rows],
        clipart.images[rows],
        clipart.captions[rows],
        clipart.old[rows],
        clipart.new[rows],
    )
    made = Place(request.param, url, tmp_path, few)
    made.clipart = clipart
    return made


def test_there_and_back_again_without_losing_a_write(place: Place, clipart: Clipart):
    before = place.points(place.name, "old")
    check_gates(place)
    cut_over_beside_writes(place, clipart)
    carry_over_what_came_late(place, clipart)
    roll_back_beside_writes(place, clipart, before)
    assert place.run("rollback", "--yes")["carried_back"] == 0
    # What was rolled back can be cut over again.
    place.run("verify", "--yes")
    assert place.run("cutover", "--yes")["phase"] == "cut_over"


def check_vector(point: tuple[np.ndarray | None, dict], expected: np.ndarray) -> None:
    """Not every Qdrant scales what it stores: the embedded one keeps it as it came."""
    vector, _ = point
    assert vector is not None
    np.testing.assert_allclose(vector / np.linalg.norm(vector), expected, atol=2e-6)


def switch_of(place: Place) -> Switch | None:
    return read_switch(next(place.folder.glob(".xbtmigrate/*")))


def check_gates(place: Place) -> None:
    refused = place.run("cutover", expect=3)
    assert refused["error"]["hint"] == "`xbtmigrate verify` comes first"
    place.run("verify")

    ready = place.run("cutover")
    assert (ready["ready"], ready["phase"], ready["status"]) == (
        True, "verified", "nothing was switched",
    )  # fmt: skip
    assert f"to '{place.live}' with using=\"new\"" in ready["readers"]
    assert place.leads_to() == place.name
    assert switch_of(place) is None


def cut_over_beside_writes(place: Place, clipart: Clipart) -> None:
    """The application changes a point, adds one and deletes one since the verification."""
    changed, added, gone = clipart.ids[0], 900_001, clipart.ids[1]
    place.upsert(changed, COUNT, "old")
    place.upsert(added, COUNT + 1, "old")
    place.delete(gone)
    done = place.run("cutover", "--yes")
    assert (done["status"], done["phase"]) == ("cut over", "cut_over")
    assert place.leads_to() == place.target
    switch = switch_of(place)
    assert switch is not None
    assert (switch.active, switch.query_vector, switch.phase) == ("new", "new", "cut_over")
    assert switch.alias == (place.alias if place.shadow else None)
    assert switch.query_collection == place.live
    assert set(switch.projectors) == {"bridge", "forward"}
    after = place.points(place.target, "new")
    assert after.keys() == (set(clipart.ids[:COUNT]) | {added}) - {gone}
    check_vector(after[changed], clipart.new[COUNT])
    check_vector(after[added], clipart.new[COUNT + 1])


def carry_over_what_came_late(place: Place, clipart: Clipart) -> None:
    """A slow writer still writes the old way; run again, it is carried over, the newer is kept."""
    late, both = clipart.ids[2], clipart.ids[3]
    place.upsert(late, COUNT + 2, "old", place.name)
    if place.shadow:
        place.upsert(both, COUNT + 3, "old", place.name)
        place.upsert(both, COUNT + 4, "new", place.target)
        place.delete(clipart.ids[4], place.name)
        place.delete(clipart.ids[5], place.target)
    again = place.run("cutover", "--yes")
    assert again["carried_over"] == 1
    assert (again["deleted"], again["newer_kept"]) == ((1, 1) if place.shadow else (0, 0))
    after = place.points(place.target, "new")
    check_vector(after[late], clipart.new[COUNT + 2])
    if place.shadow:
        assert not {clipart.ids[4], clipart.ids[5]} & after.keys()
        assert after[both][1] == clipart.payloads[COUNT + 4]


def roll_back_beside_writes(place: Place, clipart: Clipart, before: dict) -> None:
    """The application writes the new way, and then everything is rolled back."""
    place.upsert(clipart.ids[6], COUNT + 6, "new")
    place.upsert(900_002, COUNT + 7, "new")
    place.delete(clipart.ids[7])
    client = place.open()
    client.set_payload(place.live, {"n": 1}, points=[clipart.ids[8]], wait=True)
    client.close()
    looked = place.run("rollback")
    assert (looked["status"], looked["cannot_be_carried"]) == ("nothing was switched", 0)
    assert place.leads_to() == place.target
    back = place.run("rollback", "--yes")
    assert (back["status"], back["phase"]) == ("rolled back", "rolled_back")
    assert place.leads_to() == place.name
    switch = switch_of(place)
    assert switch is not None
    assert (switch.active, switch.query_vector) == ("old", "old")

    now = place.points(place.name, "old")
    expected = {clipart.ids[6]: COUNT + 6, 900_002: COUNT + 7}
    expected |= {clipart.ids[0]: COUNT, 900_001: COUNT + 1, clipart.ids[2]: COUNT + 2}
    deleted = {clipart.ids[1], clipart.ids[7]}
    if place.shadow:
        deleted |= {clipart.ids[4], clipart.ids[5]}
        expected[clipart.ids[3]] = COUNT + 4
    assert now.keys() == (set(clipart.ids[:COUNT]) | {900_001, 900_002}) - deleted
    for point, row in expected.items():
        check_vector(now[point], clipart.old[row])
        assert now[point][1] == clipart.payloads[row]
    assert now[clipart.ids[8]][1] == before[clipart.ids[8]][1] | {"n": 1}
    for point in now.keys() - expected.keys():
        if place.embedded:
            np.testing.assert_allclose(now[point][0], before[point][0], atol=2e-6)
        else:
            np.testing.assert_array_equal(now[point][0], before[point][0])
