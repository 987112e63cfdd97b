"""cutover, rollback, finalize and abort, killed at any moment, go on with the same command."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from tests.support.checks import check_vectors
from tests.support.clipart import Clipart
from tests.support.command import start
from tests.support.proxy import DroppedError, Proxy, Request, proxied
from tests.support.switching import Place
from xbtmigrate.serving import MigrationSearcher

COUNT = 150
AT_ONCE = ("--notice", "0")
pytestmark = [pytest.mark.long, pytest.mark.server]


@pytest.fixture(scope="module")
def clipart() -> Clipart:
    return Clipart.load(COUNT)


@pytest.fixture
def proxy(qdrant_url: str) -> Iterator[Proxy]:
    with proxied(qdrant_url) as running:
        yield running


def kill_at(
    place: Place, proxy: Proxy, moment: Callable[[Request], bool], *command: str, after: bool
) -> None:
    """Run a command and kill -9 it at the first request that is the moment."""
    process: Future = Future()

    def look(request: Request) -> None:
        if moment(request) and not process.result(60).poll():
            process.result().kill()
            process.result().wait()
            raise DroppedError

    setattr(proxy, "after" if after else "before", look)
    try:
        running = start(*command, cwd=place.folder)
        process.set_result(running)
        out, err = running.communicate(timeout=300)
    finally:
        proxy.before = proxy.after = lambda _: None
    assert running.returncode == -signal.SIGKILL, f"{running.returncode}\n{out}\n{err}"


def alias_is_moved(request: Request) -> bool:
    return request.path.startswith("/collections/aliases") and b"create_alias" in request.body


def phase_is(name: str) -> Callable[[Request], bool]:
    def moment(request: Request) -> bool:
        if not request.path.startswith("/collections/_xbtmigrate/points/payload"):
            return False
        return json.loads(request.body)["payload"].get("phase") == name

    return moment


def deletes(what: bytes) -> Callable[[Request], bool]:
    return lambda request: (
        request.path.split("?")[0].endswith("/points/batch") and what in request.body
    )


def removed_by(place: Place) -> Callable[[Request], bool]:
    """The first request that takes something away."""
    if place.shadow:
        return lambda request: request.method == "DELETE" and "/points" not in request.path
    return deletes(b"delete_vectors")


@pytest.mark.parametrize("layout", ["in_place", "shadow"])
def test_killed_at_every_step(layout: str, clipart: Clipart, proxy: Proxy, tmp_path: Path):
    place = Place(f"server-{layout}", proxy.url, tmp_path, clipart)
    client = place.open()
    before = place.points(place.name, "old")

    kill_at(place, proxy, phase_is("aborting"), "abort", "--yes", *AT_ONCE, after=True)
    kill_at(place, proxy, removed_by(place), "abort", "--yes", *AT_ONCE, after=True)
    assert place.run("status")["phase"] == "aborting"
    assert place.run("abort", "--yes", *AT_ONCE)["phase"] == "aborted"
    check_as_found(place, before)
    assert place.run("abort", "--yes", *AT_ONCE, expect=3)["error"]["type"] == "GateError"
    place.run("backfill", "--online", "--fraction", "0.5")
    assert place.run("verify")["clean"]

    kill_at(place, proxy, phase_is("cutting_over"), "cutover", "--yes", after=True)
    assert place.leads_to() == place.name
    assert found(place, 3)[0] == "merge"
    if place.shadow:
        kill_at(place, proxy, alias_is_moved, "cutover", "--yes", after=True)
        assert place.leads_to() == place.target
    kill_at(place, proxy, phase_is("cut_over"), "cutover", "--yes", after=False)
    assert place.run("cutover", "--yes")["phase"] == "cut_over"
    assert place.leads_to() == place.target

    added = 900_001
    place.upsert(added, 3, "new")
    kill_at(place, proxy, phase_is("rolling_back"), "rollback", "--yes", after=True)
    serving, ids = found(place, 3)
    assert (serving, added in ids) == ("single", True)
    if place.shadow:
        kill_at(place, proxy, alias_is_moved, "rollback", "--yes", after=True)
    kill_at(place, proxy, phase_is("rolled_back"), "rollback", "--yes", after=False)
    assert place.run("rollback", "--yes")["phase"] == "rolled_back"
    assert place.leads_to() == place.name
    now = place.points(place.name, "old")
    np.testing.assert_allclose(now.pop(added)[0], clipart.old[3], atol=2e-6)
    check_same(now, before)
    place.delete(added)

    assert place.run("verify", "--yes")["clean"]
    place.run("cutover", "--yes")
    check_vectors(client, place.target, clipart, place.folder, encoded=COUNT // 2)
    looked = place.run("finalize")
    assert looked["status"] == "nothing was deleted"
    assert place.run("finalize", "--confirm", "other", expect=2)
    confirmed = ("finalize", "--confirm", place.name, *AT_ONCE)
    kill_at(place, proxy, phase_is("finalizing"), *confirmed, after=True)
    kill_at(place, proxy, removed_by(place), *confirmed, after=True)
    kill_at(place, proxy, deletes(b"delete_payload"), *confirmed, after=False)
    assert place.run("rollback", expect=3)["error"]["type"] == "GateError"
    assert place.run(*confirmed)["phase"] == "finalized"
    assert place.run("status")["phase"] == "finalized"
    check_ended(place)
    client.close()


def found(place: Place, row: int) -> tuple[str, list[int]]:
    """What a searcher answers to a picture's own vectors, and by which serving."""
    client = place.open()
    folder = next(place.folder.glob(".xbtmigrate/*"))
    searcher = MigrationSearcher.open(client, place.live, folder=folder, serving="merge")
    clipart = place.clipart
    answer = searcher.search(vector=clipart.new[row], old_vector=clipart.old[row])
    client.close()
    return answer.serving, [point.id for point in answer]


def check_as_found(place: Place, before: dict) -> None:
    client = place.open()
    assert not client.collection_exists(f"{place.name}__xbtmigrate")
    records, _ = client.scroll(place.name, limit=1000, with_vectors=True)
    assert all(set(record.vector) == {"old"} for record in records)
    assert all("_xbtmigrate" not in record.payload for record in records)
    client.close()
    check_same(place.points(place.name, "old"), before)


def check_ended(place: Place) -> None:
    client = place.open()
    assert client.collection_exists(place.name) is not place.shadow
    records, _ = client.scroll(place.live, limit=1000, with_vectors=True)
    client.close()
    assert {record.id for record in records} == set(place.clipart.ids)
    assert all("_xbtmigrate" not in record.payload for record in records)
    assert all(set(record.vector) == {"new"} for record in records)


def check_same(now: dict, before: dict) -> None:
    """Old vectors to the bit, and payloads."""
    assert now.keys() == before.keys()
    for point, (vector, payload) in before.items():
        np.testing.assert_array_equal(now[point][0], vector)
        assert now[point][1] == payload
