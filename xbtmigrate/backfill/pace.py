"""Decide how fast a backfill may go, so that other clients' queries stay fast.

One number sets the pace: the share of its time that the run may spend on requests. It is halved
when queries are too slow and grows by a small step when they are not (AIMD: Chiu & Jain 1989).
Points in a write and the wait after each request follow from it. It never falls below a floor, so
a run always ends; at the floor the run checks, by writing nothing for a moment, whether the load
is its own at all.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

# MIN_SHARE, MIN_BATCH and MAX_WAIT (seconds) are bounds: at any load, a run comes to an end.
MIN_SHARE = 1 / 32
STEP = 1 / 16
MIN_BATCH = 16
MAX_WAIT = 2.0
UNTHROTTLED_MS = 5.0
"""Below this p95, in milliseconds, nothing is throttled, at any ratio to the baseline."""
EASY = 0.9
"""Share of the limit below which the run may go faster."""
# Slow measurements at the floor before the run stops to check, and slow ones between two checks.
STARVED = 2
CHECK_EVERY = 20
RATE_SECONDS = 10.0
# Longest sleep in seconds, so that a new pace, a release or a stop takes effect at once.
POLL = 0.1
WINDOW = 20
"""Queries needed for one p95."""
WINDOWS = 3


class WaitReason(StrEnum):
    """Why a run waits before its next request."""

    REQUEST = "request"
    SLOWDOWN = "slowdown"
    RATE = "rate"
    BACKLOG = "backlog"
    CHECK = "check"
    SERVER_LIMIT = "server_limit"
    SERVER_AWAY = "server_away"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a run may slow down other clients, and how fast it may write.

    Attributes:
        max_slowdown: How many times slower (p95) other clients' queries may get; None for any.
        max_rate: Most points written per second; None for any number.
    """

    max_slowdown: float | None = 1.5
    max_rate: float | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """How often, and how many seconds in all, a run waited for one reason."""

    count: int = 0
    seconds: float = 0.0

    def plus(self, count: int, seconds: float) -> Pause:
        """Return the sum of both."""
        return Pause(self.count + count, self.seconds + seconds)


class Windows:
    """Times of queries, until there are enough of them to judge by.

    The judgement is the median of the p95 of three windows, which one bad moment cannot spoil.
    """

    def __init__(self) -> None:
        self._times: list[float] = []

    def __len__(self) -> int:
        return len(self._times)

    def add(self, milliseconds: float) -> None:
        """Add the time of one query."""
        self._times.append(milliseconds)

    def take_p95(self, *, hurried: bool = False) -> float | None:
        """Return the p95 and start over; None while there are too few, even if hurried."""
        if len(self._times) < (WINDOW if hurried else WINDOW * WINDOWS):
            return None
        full = len(self._times) // WINDOW
        parts = [sorted(self._times[row * WINDOW : (row + 1) * WINDOW]) for row in range(full)]
        self._times.clear()
        # Nearest-rank percentile: of 20 sorted times the 19th.
        return median(part[math.ceil(0.95 * WINDOW) - 1] for part in parts)

    def clear(self) -> None:
        """Forget what was added."""
        self._times.clear()


class Pace:
    """The present pace of one run; every method may be called from any thread.

    Args:
        limits: What the run may do to others.
        batch_size: Points in a write at full speed.
        say: Receives a line of text for each change that the user should see.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        limits: Limits,
        batch_size: int,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self.share = 1.0
        self.p95: float | None = None
        self.baseline: float | None = None
        self.holds: dict[WaitReason, str] = {}
        self.pauses: dict[WaitReason, Pause] = {}
        self.slow_because = ""
        self._batch_size = batch_size
        self._say = say
        self._clock = clock
        # The original baseline, kept while the load of others replaces it.
        self._first: float | None = None
        self._starved = 0
        self._until_check = 0
        self._stopped = 0.0
        self._ready = self._rate_ready = clock()
        self._busy = 0
        self._written: deque[tuple[float, int]] = deque()
        # Re-entrant: `judge` calls `back_off`, `hold` and `release` while it holds the lock.
        self._lock = threading.RLock()

    @property
    def batch(self) -> int:
        """Points in the next write."""
        most = self._batch_size * self.share
        if self.limits.max_rate is not None:
            # A quarter of a second's points at most, so that a limited run has no bursts.
            most = min(most, self.limits.max_rate / 4)
        return min(self._batch_size, max(MIN_BATCH, int(most)))

    @property
    def delay(self) -> float:
        """Seconds until the next request may begin, as far as they are known."""
        return max(0.0, self._ready - self._clock())

    @property
    def rate(self) -> float:
        """Points written per second, over the last ten seconds."""
        with self._lock:
            since = self._clock() - RATE_SECONDS
            while self._written and self._written[0][0] < since:
                self._written.popleft()
            return sum(points for _, points in self._written) / RATE_SECONDS

    @property
    def slowdown(self) -> float | None:
        """Ratio of the queries' p95 to that before the run; None while it is unknown."""
        if self.p95 is None or not self.baseline:
            return None
        return self.p95 / self.baseline

    @property
    def suffering(self) -> bool:
        """Whether queries take longer than the limit allows, by the last measurement."""
        limit = self.limits.max_slowdown
        if limit is None or self.p95 is None or self.baseline is None:
            return False
        return not self._is_fine(self.p95, limit)

    @property
    def idle(self) -> bool:
        """Whether no request of the run is in progress."""
        return self._busy == 0

    def wait(self, *, writes: bool) -> tuple[float, WaitReason]:
        """Return the seconds that the next request has to wait (0 for none), and why."""
        with self._lock:
            now = self._clock()
            if self.holds:
                return POLL, next(iter(self.holds))
            # Of the two waits the longer one decides, and is reported as the reason.
            if writes and self._rate_ready > now and self._rate_ready >= self._ready:
                return self._rate_ready - now, WaitReason.RATE
            return max(0.0, self._ready - now), WaitReason.SLOWDOWN

    def begin(self) -> None:
        """Note that a request begins."""
        with self._lock:
            self._busy += 1

    def end(self, seconds: float, written: int = 0) -> None:
        """Note that a request ended, how many seconds it took and how many points it wrote."""
        with self._lock:
            now = self._clock()
            self._busy -= 1
            # A request of s seconds and a rest of s (1 / share - 1): requests take `share` of both.
            wait = min(MAX_WAIT, seconds * (1 / self.share - 1))
            self._ready = max(self._ready, now + wait)
            if written:
                self._written.append((now, written))
            if written and self.limits.max_rate is not None:
                # A token bucket one second deep: no burst catches up with a long wait.
                begun = max(self._rate_ready, now - 1)
                self._rate_ready = begun + written / self.limits.max_rate

    def add_wait(self, reason: WaitReason, seconds: float, *, begins: bool) -> None:
        """Add a wait to the totals; `begins` if it does not continue the wait before it."""
        with self._lock:
            before = self.pauses.get(reason, Pause())
            self.pauses[reason] = before.plus(int(begins), seconds)

    def hold(self, reason: WaitReason, text: str) -> None:
        """Let no further request begin until `release`."""
        with self._lock:
            if reason not in self.holds:
                self._say(f"paused: {text}")
            self.holds[reason] = text

    def release(self, reason: WaitReason, text: str = "") -> None:
        """Lift a hold; without one nothing happens."""
        with self._lock:
            if self.holds.pop(reason, None) is not None and text:
                self._say(text)

    def limit_to(self, limits: Limits) -> None:
        """Set new limits; with none on the slowdown the run is at full speed at once."""
        with self._lock:
            self.limits = limits
            self._rate_ready = self._clock()
            if limits.max_slowdown is None:
                self.run_free()

    def run_free(self) -> None:
        """Go at full speed from now on, until queries are judged again."""
        with self._lock:
            self.share, self.slow_because, self._ready = 1.0, "", self._clock()
            # What queries took before says nothing about the time that now begins.
            self.p95, self._starved = None, 0
            self.release(WaitReason.CHECK)
            self.release(WaitReason.BACKLOG)

    def judge(self, p95: float, *, settled: bool = True) -> None:
        """Adapt the pace to the time that queries take now.

        Args:
            p95: 95th percentile of the last queries, in milliseconds.
            settled: Whether the server has nothing left to do that earlier writes caused.
        """
        with self._lock:
            self.p95 = p95
            limit = self.limits.max_slowdown
            if limit is None:
                return
            if WaitReason.CHECK in self.holds:
                self._checked(p95, limit, settled=settled)
                return
            # The time of queries while the run waits does not depend on its pace.
            if self.baseline is None or self.holds:
                return
            # Others' load, once taken as the baseline, is gone again: return to the original one.
            if self._first is not None and p95 <= limit * self._first:
                self.baseline = self._first
            if self._is_fine(p95, limit):
                self._starved = 0
                # From nine tenths of the limit up to the limit the pace stays: no swinging.
                if p95 <= max(UNTHROTTLED_MS, EASY * limit * self.baseline):
                    self._speed_up()
                return
            self.back_off(
                f"queries take {p95:.1f} ms (p95), {p95 / self.baseline:.2f} times the "
                f"{self.baseline:.1f} ms without this run; at most {limit:g} times is allowed"
            )
            self._look_for_others()

    def back_off(self, why: str) -> None:
        """Halve the share of time, down to its floor."""
        with self._lock:
            if self.limits.max_slowdown is None:
                return
            self.slow_because = why
            # Once, not at each halving.
            if self.share == 1:
                self._say(f"slower: {why}")
            self.share = max(MIN_SHARE, self.share / 2)

    def _is_fine(self, p95: float, limit: float) -> bool:
        assert self.baseline is not None
        return p95 <= max(UNTHROTTLED_MS, limit * self.baseline)

    def _speed_up(self) -> None:
        if self.share == 1:
            return
        # Near the floor a whole step would triple the share, and with it what the queries suffer.
        self.share = min(1.0, self.share + min(STEP, self.share / 2))
        if self.share == 1:
            self.slow_because = ""
            self._say(f"at full speed again: queries take {self.p95:.1f} ms (p95)")

    def _look_for_others(self) -> None:
        """Stop the run for one measurement if queries stay slow at the slowest pace."""
        self._starved = self._starved + 1 if self.share == MIN_SHARE else 0
        self._until_check -= 1
        if self._starved >= STARVED and self._until_check <= 0:
            self._until_check = CHECK_EVERY
            self._stopped = self._clock()
            self.hold(WaitReason.CHECK, "to see whether queries are slow without this run")

    def _checked(self, p95: float, limit: float, *, settled: bool) -> None:
        """Decide from a measurement without the run whether it causes the load."""
        if self.baseline is None:
            self.baseline = self._first = p95
            self.release(
                WaitReason.CHECK,
                f"queries take {p95:.1f} ms (p95) without this run; "
                f"at most {limit:g} times that is allowed, or {UNTHROTTLED_MS:g} ms",
            )
            return
        # While the optimizer still works on this run's writes, slow queries are this run's doing.
        own = self._is_fine(p95, limit) or not settled
        if not own:
            self.baseline = p95
        verdict = (
            "the run causes the load, and stays at its slowest pace"
            if own
            else "others cause the load, and the run is now measured against it"
        )
        self.release(
            WaitReason.CHECK,
            f"stopped {self._clock() - self._stopped:.0f} s to see whether queries are slow "
            f"without this run: they take {p95:.1f} ms (p95); {verdict}",
        )
