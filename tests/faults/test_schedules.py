"""A short set of schedules, and proof that it sees what it is there for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.aimed import AIMS, hit
from tests.faults.lanes import Lane, open_lane
from tests.faults.schedule import Schedule, played

pytestmark = [pytest.mark.long, pytest.mark.server, pytest.mark.xdist_group("faults")]
SHORT = range(12)


@pytest.fixture(scope="module")
def lane() -> Iterator[Lane]:
    with open_lane() as opened:
        yield opened


@pytest.mark.parametrize("seed", SHORT)
def test_schedule(seed: int, lane: Lane) -> None:
    wrong, story, _ = played(Schedule.draw(seed), lane)
    print(f"replay with: python -m tests.faults --seeds {seed}\n{Schedule.draw(seed)}\n{story}")
    assert wrong == ""


@pytest.mark.parametrize("removed", ["content hash", "sweep", "mark names the vector"])
def test_a_removed_protection_is_missed(removed: str, lane: Lane) -> None:
    assert any(played(Schedule.draw(seed), lane, removed)[0] for seed in range(2, 40))


@pytest.mark.parametrize("protection", list(AIMS))
@pytest.mark.parametrize("removed", [False, True])
def test_what_no_schedule_sees(protection: str, removed: bool, lane: Lane) -> None:
    assert bool(hit(protection, lane, removed=removed)) == removed
