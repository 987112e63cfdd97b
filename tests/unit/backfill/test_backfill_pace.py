"""The pace of a run, driven by a clock and by query times that the test makes up."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xbtmigrate.backfill.pace import (
    CHECK_EVERY,
    MAX_WAIT,
    MIN_BATCH,
    MIN_SHARE,
    UNTHROTTLED_MS,
    WINDOW,
    WINDOWS,
    Limits,
    Pace,
    WaitReason,
    Windows,
)

BATCH = 512


@dataclass
class Run:
    """A run and its clock; it keeps what was said."""

    limits: Limits = field(default_factory=Limits)
    now: float = 0.0
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pace = Pace(self.limits, BATCH, self.said.append, clock=lambda: self.now)

    def started(self, baseline: float) -> Pace:
        self.pace.hold(WaitReason.CHECK, "measuring")
        self.pace.judge(baseline)
        assert self.pace.holds == {}
        return self.pace

    def write(self, seconds: float) -> int:
        """Wait as told, then write; returns the points."""
        for _ in range(10_000):
            left, _ = self.pace.wait(writes=True)
            if left <= 0:
                break
            self.now += left
        else:
            pytest.fail("the run stands still")
        points = self.pace.batch
        self.pace.begin()
        self.now += seconds
        self.pace.end(seconds, points)
        return points


milliseconds = st.floats(min_value=0.01, max_value=60_000)


@given(st.lists(st.tuples(milliseconds, st.booleans()), max_size=80), milliseconds)
def test_the_pace_stays_within_its_bounds_and_never_stalls(
    judged: list[tuple[float, bool]], baseline: float
):
    run = Run()
    pace = run.started(baseline)
    for p95, settled in judged:
        pace.judge(p95, settled=settled)
        assert MIN_SHARE <= pace.share <= 1
        assert MIN_BATCH <= pace.batch <= BATCH
        if not pace.holds:
            before = run.now
            assert run.write(0.01) >= MIN_BATCH
            assert run.now - before <= MAX_WAIT + 0.02
        else:
            assert set(pace.holds) == {WaitReason.CHECK}
            pace.judge(p95, settled=settled)
            assert pace.holds == {}


@given(
    st.integers(0, 2**32 - 1),
    st.floats(min_value=6, max_value=50),
    st.floats(min_value=0.8, max_value=10),
)
@example(seed=0, idle=6.0, harm=10.0)
@settings(max_examples=30)
def test_converges_where_the_run_itself_slows_the_queries(seed: int, idle: float, harm: float):
    """Query time grows with the run's share; noise of 5 %; the limit of 1.5 is held on average."""
    noise = random.Random(seed)
    pace = Run().started(idle)
    shares, times = [], []
    for _ in range(400):
        share = 0.0 if pace.holds else pace.share
        p95 = idle * (1 + harm * share) * noise.uniform(0.95, 1.05)
        pace.judge(p95)
        shares.append(share)
        times.append(p95)
    settled = times[100:]
    assert sum(settled) / len(settled) <= 1.5 * idle
    assert sum(shares[100:]) / 300 >= min(1.0, 0.5 / harm) * 0.4


def test_nothing_is_throttled_below_the_floor_in_milliseconds():
    pace = Run().started(0.5)
    for _ in range(10):
        pace.judge(UNTHROTTLED_MS)
    assert (pace.share, pace.batch) == (1, BATCH)


def test_a_load_that_is_not_the_runs_own_becomes_the_new_measure():
    run = Run()
    pace = run.started(10)
    while WaitReason.CHECK not in pace.holds:
        pace.judge(100)
    assert pace.share == MIN_SHARE
    pace.judge(98)
    assert (pace.holds, pace.baseline) == ({}, 98)
    assert "without this run: they take" in run.said[-1]
    assert "others cause the load" in run.said[-1]
    while pace.share < 1:
        pace.judge(99)
    pace.judge(11)
    assert pace.baseline == 10


@pytest.mark.parametrize(("p95", "settled"), [(12, True), (98, False)])
def test_a_load_of_the_runs_own_keeps_it_slow(p95: float, settled: bool):
    run = Run()
    pace = run.started(10)
    while WaitReason.CHECK not in pace.holds:
        pace.judge(100)
    pace.judge(p95, settled=settled)
    assert (pace.holds, pace.baseline, pace.share) == ({}, 10, MIN_SHARE)
    for _ in range(CHECK_EVERY - 1):
        pace.judge(100)
        assert pace.holds == {}


def test_the_rate_is_limited_on_average_whatever_the_writes_take():
    run = Run(Limits(None, 1000))
    total = sum(run.write(0.01) for _ in range(400))
    assert total / run.now == pytest.approx(1000, rel=0.05)
    assert run.pace.rate == pytest.approx(1000, rel=0.1)


def test_without_a_limit_it_is_at_full_speed_at_once():
    run = Run()
    pace = run.started(10)
    for _ in range(4):
        pace.judge(100)
    assert pace.share < 1
    pace.limit_to(Limits(None, None))
    pace.back_off("the server refused requests (429)")
    assert (pace.share, pace.wait(writes=True)[0]) == (1, 0)


def test_a_pause_holds_until_it_is_taken_back_and_changes_nothing_else():
    run = Run()
    pace = run.started(10)
    pace.hold(WaitReason.REQUEST, "asked for")
    for _ in range(10):
        pace.judge(100)
    assert pace.wait(writes=False)[1] is WaitReason.REQUEST
    assert pace.share == 1
    pace.release(WaitReason.REQUEST, "going on")
    assert pace.wait(writes=False)[0] == 0
    assert run.said[-2:] == ["paused: asked for", "going on"]


def test_a_server_that_asks_for_less_gets_less():
    run = Run()
    pace = run.started(10)
    pace.back_off("the server refused requests (429)")
    assert (pace.share, pace.batch) == (0.5, BATCH // 2)
    assert run.said[-1] == "slower: the server refused requests (429)"
    for _ in range(20):
        pace.judge(10)
    assert run.said[-1].startswith("at full speed again")


def test_a_verdict_needs_enough_queries_and_survives_one_bad_window():
    windows = Windows()
    for number in range(WINDOW * WINDOWS):
        assert windows.take_p95() is None
        windows.add(500.0 if number < WINDOW else 10.0)
    assert windows.take_p95() == 10.0
    assert windows.take_p95(hurried=True) is None


def test_a_hurried_verdict_takes_one_window():
    windows = Windows()
    for number in range(WINDOW):
        windows.add(float(number))
    assert windows.take_p95(hurried=True) == 18.0
