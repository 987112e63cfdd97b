"""Measure where the time of a run goes, step by step."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import TypeVar

T = TypeVar("T")
_END = object()


class Step(StrEnum):
    """A step of a run."""

    ORDER = "order"
    READ = "read"
    ENCODE = "encode"
    PROJECT = "project"
    WRITE = "write"
    MARK = "mark"
    SWEEP = "sweep"
    WAIT = "wait"


class StepTimes:
    """Seconds that a run spent in each step, added up over its threads.

    Threads work side by side, so the sum may exceed the run's own time. A step within another one
    counts for itself alone: a write that waits for its turn is `wait` meanwhile, not `write`.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds = dict.fromkeys(Step, 0.0)
        self._clock = clock
        self._lock = threading.Lock()
        # Of each thread: seconds that the steps within its present one have taken.
        self._within = threading.local()

    @contextmanager
    def time(self, step: Step) -> Iterator[None]:
        """Add the time of the block to a step."""
        outer, self._within.seconds = getattr(self._within, "seconds", 0.0), 0.0
        begun = self._clock()
        try:
            yield
        finally:
            spent = self._clock() - begun
            with self._lock:
                self.seconds[step] += spent - self._within.seconds
            self._within.seconds = outer + spent

    def add(self, seconds: Mapping[Step, float]) -> None:
        """Add what was measured elsewhere."""
        with self._lock:
            for step, spent in seconds.items():
                self.seconds[step] += spent

    def each(self, step: Step, items: Iterable[T]) -> Iterator[T]:
        """Yield items, and add to a step the time that each one takes to arrive."""
        source = iter(items)
        while True:
            with self.time(step):
                item = next(source, _END)
            if item is _END:
                return
            yield item  # type: ignore[misc]
