"""A gallery that keeps to a pace writes the same points, in more parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pytest

from xbtmigrate.backfill.pace import MIN_BATCH, Limits, Pace, WaitReason
from xbtmigrate.backfill.paced_gallery import PacedGallery
from xbtmigrate.protocols import Written
from xbtmigrate.testing.galleries import to_write
from xbtmigrate.types import Kind


@dataclass
class Recorder:
    """Notes the size of each write; the point "3" has vanished."""

    writes: list[int] = field(default_factory=list)

    def count(self, kind: Kind | None = None) -> int:
        return 0

    def read(self, columns, *, ids=None, after=None) -> Iterator[pa.RecordBatch]:
        yield from ()

    def write(self, batch: pa.RecordBatch, kind: Kind) -> Written:
        self.writes.append(len(batch))
        ids = batch["id"].to_pylist()
        return Written([each for each in ids if each != "3"], [each for each in ids if each == "3"])

    def prune(self) -> int:
        return 0


class Clock:
    """Time passes only while something sleeps."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def paced(clock: Clock, pace: Pace, **options) -> tuple[Recorder, PacedGallery]:
    recorder = Recorder()
    return recorder, PacedGallery(recorder, pace, clock=clock, sleep=clock.sleep, **options)


def batch_of(count: int) -> pa.RecordBatch:
    ids = [str(number) for number in range(1, count + 1)]
    return to_write(ids, [f"text {each}" for each in ids], 1.0)


def test_a_write_is_split_and_its_results_are_put_together(clock: Clock):
    pace = Pace(Limits(None, 80.0), 64, lambda _: None, clock)
    recorder, gallery = paced(clock, pace)
    result = gallery.write(batch_of(50), Kind.ENCODED)
    assert recorder.writes == [20, 20, 10]
    assert (len(result.written), list(result.vanished)) == (49, ["3"])
    assert pace.pauses[WaitReason.RATE].seconds == pytest.approx(clock.now)
    assert pace.pauses[WaitReason.RATE].count == 2


def test_at_full_speed_nothing_is_split_or_waited_for(clock: Clock):
    recorder, gallery = paced(clock, Pace(Limits(), 64, lambda _: None, clock))
    gallery.write(batch_of(64), Kind.ENCODED)
    assert (recorder.writes, clock.now) == ([64], 0)


def test_a_held_write_goes_on_when_it_is_released(clock: Clock):
    pace = Pace(Limits(), 64, lambda _: None, clock)
    pace.hold(WaitReason.REQUEST, "asked for")
    recorder, gallery = paced(clock, pace)

    def sleep(seconds: float) -> None:
        assert recorder.writes == []
        assert pace.idle
        clock.sleep(seconds)
        if clock.now > 3:
            pace.release(WaitReason.REQUEST)

    replace(gallery, sleep=sleep).write(batch_of(10), Kind.ENCODED)
    assert recorder.writes == [10]
    assert pace.pauses[WaitReason.REQUEST].seconds > 3


def test_a_run_that_is_to_stop_is_not_held_up(clock: Clock):
    pace = Pace(Limits(), 64, lambda _: None, clock)
    pace.hold(WaitReason.REQUEST, "asked for")
    recorder, gallery = paced(clock, pace, should_stop=lambda: "interrupted")
    gallery.write(batch_of(10), Kind.ENCODED)
    assert (recorder.writes, clock.now) == ([10], 0)


def test_an_empty_write_asks_for_nothing(clock: Clock):
    recorder, gallery = paced(clock, Pace(Limits(), 64, lambda _: None, clock))
    empty = gallery.write(batch_of(MIN_BATCH).slice(0, 0), Kind.ENCODED)
    assert (recorder.writes, list(empty.written)) == ([], [])
    assert np.size(empty.vanished) == 0
