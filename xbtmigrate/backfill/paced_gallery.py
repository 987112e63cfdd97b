"""Hold any gallery to a pace: wait before each request, and split writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa

from xbtmigrate.backfill.pace import POLL, Pace, WaitReason
from xbtmigrate.backfill.step_times import Step, StepTimes
from xbtmigrate.protocols import Gallery, Written
from xbtmigrate.types import Kind, PointId


@dataclass(frozen=True, slots=True)
class PacedGallery:
    """A gallery that forwards to another one, waits before each request and splits writes.

    Attributes:
        gallery: The gallery.
        pace: The pace to keep.
        should_stop: A reason to wait no longer, "" for none; a run that ends is not held up.
        times: Measures the waits.
        clock: Seconds that only grow.
        sleep: Waits so many seconds.
    """

    gallery: Gallery
    pace: Pace
    should_stop: Callable[[], str] = lambda: ""
    times: StepTimes = field(default_factory=StepTimes)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def count(self, kind: Kind | None = None) -> int:
        """Count exactly."""
        return self.gallery.count(kind)

    def read(
        self,
        columns: Collection[str],
        *,
        ids: Sequence[PointId] | None = None,
        after: PointId | None = None,
        expected: Kind | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Yield batches of points, each when the pace allows it."""
        batches = self.gallery.read(columns, ids=ids, after=after, expected=expected)
        while True:
            # The request is sent when the next batch is taken, so the wait comes before that.
            self._wait(writes=False)
            with self._request():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def write(self, batch: pa.RecordBatch, kind: Kind) -> Written:
        """Store `new` with its provenance, in parts as large as the pace allows."""
        written: list[PointId] = []
        vanished: list[PointId] = []
        start = 0
        while start < len(batch):
            self._wait(writes=True)
            # Looked up for each part: the pace may have changed while the last one was written.
            part = batch.slice(start, self.pace.batch)
            with self._request(len(part)):
                result = self.gallery.write(part, kind)
            written += result.written
            vanished += result.vanished
            start += len(part)
        return Written(written, vanished)

    def prune(self) -> int:
        """Remove from a shadow the points that left the source; returns how many."""
        self._wait(writes=True)
        with self._request():
            return self.gallery.prune()

    def _wait(self, *, writes: bool) -> None:
        """Wait until the pace allows the next request, or the run is to end."""
        present: WaitReason | None = None
        while True:
            left, reason = self.pace.wait(writes=writes)
            if left <= 0 or self.should_stop():
                return
            begun = self.clock()
            with self.times.time(Step.WAIT):
                self.sleep(min(left, POLL))
            # Many short sleeps for one reason count as one wait.
            self.pace.add_wait(reason, self.clock() - begun, begins=reason is not present)
            present = reason

    @contextmanager
    def _request(self, points: int = 0) -> Iterator[None]:
        begun = self.clock()
        self.pace.begin()
        try:
            yield
        # A failed request has cost the server time, too.
        finally:
            self.pace.end(self.clock() - begun, points)
