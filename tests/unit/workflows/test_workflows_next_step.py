"""Every phase has a next step, and none names a command that would refuse."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from xbtmigrate.migration.phases import Phase
from xbtmigrate.types import Strategy
from xbtmigrate.workflows.next_step import find_next_step


@dataclass(frozen=True)
class Advised:
    strategy: Strategy | None


@dataclass(frozen=True)
class Planned:
    strategy: Strategy
    recommendation: Advised = Advised(Strategy.FULL)


FASTFILL = Planned(Strategy.FASTFILL)


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_has_one_idle_and_running(phase: Phase):
    assert find_next_step(phase, FASTFILL)
    assert find_next_step(phase, FASTFILL, running=True).startswith("nothing to do")
    assert find_next_step(phase, FASTFILL, running=True, paused=True) == "xbtmigrate resume"


def test_a_pause_outlives_the_run():
    for phase in (Phase.BACKFILLING, Phase.PAUSED):
        step = find_next_step(phase, FASTFILL, paused=True)
        assert step == "xbtmigrate resume, then xbtmigrate backfill --online"
    assert find_next_step(Phase.VERIFIED, FASTFILL, paused=True) == "xbtmigrate cutover"


@pytest.mark.parametrize(
    ("strategy", "advised", "phase", "step"),
    [
        (Strategy.FULL, Strategy.FULL, Phase.PLANNED, "backfill"),
        (Strategy.FASTFILL, Strategy.FULL, Phase.PLANNED, "train-projector"),
        (Strategy.BRIDGE, Strategy.BRIDGE, Phase.PLANNED, "train-projector"),
        (Strategy.BRIDGE, Strategy.BRIDGE, Phase.TRAINED, "publish"),
        (Strategy.FORWARD, Strategy.BRIDGE, Phase.TRAINED, "backfill"),
        (Strategy.KEEP, Strategy.KEEP, Phase.PLANNED, "nothing"),
        (Strategy.KEEP, None, Phase.PLANNED, "judged queries"),
        (Strategy.FULL, None, Phase.PLANNED, "backfill"),
    ],
)
def test_before_anything_is_written_the_strategy_decides(
    strategy: Strategy, advised: Strategy | None, phase: Phase, step: str
):
    assert step in find_next_step(phase, Planned(strategy, Advised(advised)))


def test_without_a_plan():
    assert find_next_step(None, None) == "xbtmigrate plan"
