"""Unit tests of backfill/step_times.py."""

from __future__ import annotations

import threading

import pytest

from xbtmigrate.backfill.step_times import Step, StepTimes


class Clock:
    """Seconds that grow only where a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_step_within_another_counts_for_itself_alone():
    clock = Clock()
    times = StepTimes(clock)
    with times.time(Step.WRITE):
        clock.now += 1
        with times.time(Step.WAIT):
            clock.now += 4
        with times.time(Step.MARK):
            clock.now += 2
        clock.now += 1
    with times.time(Step.WRITE):
        clock.now += 8
    assert times.seconds == dict.fromkeys(Step, 0.0) | {
        Step.WRITE: 10,
        Step.WAIT: 4,
        Step.MARK: 2,
    }


def test_items_count_until_they_arrive_and_not_while_they_are_used():
    clock = Clock()
    times = StepTimes(clock)

    def items():
        for each in range(3):
            clock.now += 2
            yield each

    for _ in times.each(Step.READ, items()):
        clock.now += 100
    assert times.seconds[Step.READ] == 6


def test_a_step_in_another_thread_is_added_and_takes_nothing_away():
    clock = Clock()
    times = StepTimes(clock)

    def read() -> None:
        with times.time(Step.READ):
            clock.now += 3

    with times.time(Step.PROJECT):
        beside = threading.Thread(target=read)
        beside.start()
        beside.join()
    assert times.seconds[Step.READ] == 3
    assert times.seconds[Step.PROJECT] == 3


def test_a_step_that_fails_counts_as_well():
    clock = Clock()
    times = StepTimes(clock)

    def fail() -> None:
        clock.now += 5
        raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"), times.time(Step.ENCODE):
        fail()
    assert times.seconds[Step.ENCODE] == 5
