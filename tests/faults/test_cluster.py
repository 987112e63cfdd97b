"""Schedules on three peers with two replicas of each shard, one of which dies and comes back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.lanes import Lane, open_lane
from tests.faults.network import Event
from tests.faults.schedule import Schedule, played

pytestmark = [pytest.mark.long, pytest.mark.server, pytest.mark.xdist_group("faults")]
DEATHS = {40: Event.PEER_DIES, 90: Event.PEER_RETURNS, 120: Event.KILL_AFTER}


@pytest.fixture(scope="module", params=[(), ("north", "south")], ids=["hashed", "keyed"])
def lane(request: pytest.FixtureRequest) -> Iterator[Lane]:
    with open_lane(peers=3, keys=request.param) as opened:
        yield opened


@pytest.mark.parametrize(("layout", "roughness"), [("in_place", None), ("shadow", 0.0)])
def test_a_peer_is_killed_and_comes_back(layout: str, roughness: float | None, lane: Lane) -> None:
    schedule = Schedule(
        seed=0,
        layout=layout,
        strategy="fastfill",
        fraction=1.0,
        batch=12,
        writers=3,
        roughness=roughness,
        runs=(DEATHS, {90: Event.QUIET}),
    )
    wrong, story, seconds = played(schedule, lane)
    print(f"{story}\n{seconds:.1f} s")
    assert wrong == ""
    assert story["a peer is killed"] == story["the peer is started again"] == 1
