"""The pace that workers share, and ranges of ids, without a cluster."""

from __future__ import annotations

import sys
import uuid
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from xbtmigrate_ray import RayEngine
from xbtmigrate_ray.ranges import IdRange, RangeGallery, cut_ranges, store_order
from xbtmigrate_ray.shared_pace import SILENCE, PaceKeeper, State

from tests.support.collections import embedded
from tests.support.corpus import create_collection, fill_collection
from xbtmigrate.backfill.pace import Limits, WaitReason
from xbtmigrate.errors import ConfigError, PluginError
from xbtmigrate.testing.fake_gallery import FakeGallery, FakePoint
from xbtmigrate.types import Kind

pytestmark = pytest.mark.long


def job_on(*, embedded: bool) -> Any:
    return SimpleNamespace(store=SimpleNamespace(connection=SimpleNamespace(embedded=embedded)))


def test_without_ray_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "xbtmigrate_ray.crew", None)
    with pytest.raises(PluginError, match="Ray cannot be imported") as caught:
        RayEngine(address="auto").open(job_on(embedded=False))
    assert caught.value.hint == "pip install 'xbtmigrate[ray]'"


def test_an_embedded_collection_is_refused():
    with pytest.raises(ConfigError, match="one process alone"):
        RayEngine().open(job_on(embedded=True))


@pytest.fixture
def keeper() -> PaceKeeper:
    made = PaceKeeper()
    made.begin(Limits(max_slowdown=None), 100)
    return made


def test_a_hold_stops_every_worker_and_waits_for_their_requests(keeper: PaceKeeper):
    assert keeper.ask("0", writes=True) == (0.0, WaitReason.SLOWDOWN, 100, State.OPEN)
    keeper.call("hold", WaitReason.REQUEST, "by the user")
    assert keeper.ask("1", writes=True)[0] > 0
    assert keeper.call("idle")[0] is False
    keeper.end("0", 0.1, 100)
    assert keeper.call("idle") == (True, [])
    keeper.call("release", WaitReason.REQUEST)
    assert keeper.ask("1", writes=True)[0] == 0


def test_the_rate_is_that_of_all_workers_together(keeper: PaceKeeper):
    keeper.call("limit_to", Limits(None, max_rate=100))
    assert keeper.ask("0", writes=True)[0] == 0
    keeper.end("0", 0.1, 100)
    seconds, reason, batch, _ = keeper.ask("1", writes=True)
    assert 0.5 < seconds <= 1
    assert (reason, batch) == (WaitReason.RATE, 25)
    assert keeper.ask("1", writes=False)[0] == 0


def test_the_requests_of_a_killed_worker_are_forgotten(keeper: PaceKeeper):
    keeper.ask("0", writes=True)
    keeper.ask("0", writes=False)
    keeper.forget("0")
    assert keeper.call("idle")[0]
    keeper.end("0", 1.0, 50)
    assert keeper.call("rate")[0] == 0


def test_a_run_that_ends_is_not_held_up_and_one_without_lease_writes_nothing(keeper: PaceKeeper):
    keeper.call("hold", WaitReason.REQUEST, "by the user")
    keeper.turn(State.ENDING)
    assert keeper.ask("0", writes=True)[0::3] == (0.0, State.ENDING)
    keeper.turn(State.CLOSED)
    keeper.end("0", 0.1, 1)
    assert keeper.ask("0", writes=True)[3] is State.CLOSED
    assert keeper.call("idle")[0]


def test_workers_wait_while_the_command_shows_no_life(keeper: PaceKeeper, monkeypatch):
    now = keeper._seen
    monkeypatch.setattr("xbtmigrate_ray.shared_pace.time.monotonic", lambda: now + SILENCE + 1)
    assert keeper.ask("0", writes=True)[0] > 0
    keeper.call("delay")
    assert keeper.ask("0", writes=True)[0] == 0


def test_a_range_ends_with_its_last_point_and_named_points_are_not_cut():
    old = np.ones(4, np.float32)
    points = {str(number): FakePoint(f"text {number}", old) for number in range(20)}
    ranged = RangeGallery(FakeGallery(points, sizes=(4, 8), page=6), IdRange("4", "13"))
    found = [each for batch in ranged.read({"source"}) for each in batch["id"].to_pylist()]
    assert found == [str(number) for number in range(5, 14)]
    after = [each for batch in ranged.read({"source"}, after="11") for each in batch["id"]]
    assert [str(each) for each in after] == ["12", "13"]
    named = [each for batch in ranged.read({"source"}, ids=["1", "19"]) for each in batch["id"]]
    assert [str(each) for each in named] == ["1", "19"]
    assert ranged.count() == 20
    assert ranged.count(Kind.ENCODED) == 0


def test_ranges_cover_every_point_once_in_the_order_of_a_scroll(tmp_path):
    ids = [*range(1, 300), *(str(uuid.UUID(int=number << 64)) for number in range(1, 200))]
    with embedded(tmp_path / "qdrant") as connection:
        create_collection(connection.client, "c", {"old": 2})
        rows = {"old": np.ones((len(ids), 2), np.float32)}
        fill_collection(connection.client, "c", ids, rows, [{}] * len(ids))
        cut = cut_ranges(connection, "c", len(ids), None, 6)
        behind = cut_ranges(connection, "c", len(ids), "250", 6)
    assert len(cut) > 3
    assert (cut[0].after, cut[-1].last) == (None, None)
    assert [each.after for each in cut[1:]] == [each.last for each in cut[:-1]]
    bounds = [store_order(each.last) for each in cut[:-1]]
    assert bounds == sorted(bounds)
    sizes = [sum(store_order(str(each)) <= bound for each in ids) for bound in bounds]
    assert max(np.diff([0, *sizes, len(ids)])) < len(ids) / 2
    assert behind[0].after == "250"
    assert len(behind) < len(cut)
