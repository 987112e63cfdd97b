"""One pace for all writers: it lives in an actor, which the command and every worker ask.

Before each request a worker asks for a grant. The limits, holds and measurements come from the
command, as those of a run in one process do.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Any

import ray

from xbtmigrate.backfill.pace import POLL, Limits, Pace, WaitReason
from xbtmigrate.errors import ConnectionFailedError, LeaseError

# Less than the 15 s after which another command may take the lease of one that shows no life.
SILENCE = 10.0
"""Seconds without a sign of life from the command after which no worker may write."""


class State(StrEnum):
    """What workers may do."""

    OPEN = "open"
    ENDING = "ending"  # end the task after the present batch
    CLOSED = "closed"  # write nothing more


class PaceKeeper:
    """The pace of one run, and the requests that workers have in progress."""

    def __init__(self) -> None:
        self._said: list[str] = []
        self._pace = Pace(Limits(), 1, self._said.append)
        self._seen = time.monotonic()
        self._state = State.OPEN
        self._busy: Counter[str] = Counter()

    def begin(self, limits: Limits, batch_size: int) -> None:
        """Start at full speed: `batch_size` points in a write."""
        self._seen = time.monotonic()
        self._pace = Pace(limits, batch_size, self._said.append)

    def call(self, name: str, *args: Any, **options: Any) -> tuple[Any, list[str]]:
        """Call a method of the pace, or read an attribute; for the command.

        Returns:
            The result, and the lines of text to show.
        """
        self._seen = time.monotonic()
        found = getattr(self._pace, name)
        result = found(*args, **options) if callable(found) else found
        said, self._said[:] = list(self._said), []
        return result, said

    def turn(self, state: State) -> None:
        """Set what workers may do from now on."""
        self._state = state

    def ask(self, worker: str, *, writes: bool) -> tuple[float, WaitReason, int, State]:
        """Begin a request of a worker, unless it has to wait.

        Returns:
            Seconds to wait (0: the request has begun), why, points in a write, and what the worker
            may do.
        """
        seconds, reason = self._pace.wait(writes=writes)
        if time.monotonic() - self._seen > SILENCE:
            seconds, reason = POLL, WaitReason.REQUEST
        elif self._state is State.ENDING:
            # A run that ends is not held up.
            seconds = 0.0
        if seconds <= 0 and self._state is not State.CLOSED:
            self._busy[worker] += 1
            self._pace.begin()
        return seconds, reason, self._pace.batch, self._state

    def end(self, worker: str, seconds: float, written: int) -> None:
        """Note that a request of a worker ended."""
        if self._busy[worker]:
            self._busy[worker] -= 1
            self._pace.end(seconds, written)

    def add_wait(self, reason: WaitReason, seconds: float, *, begins: bool) -> None:
        """Add a wait of a worker to the totals."""
        self._pace.add_wait(reason, seconds, begins=begins)

    def forget(self, worker: str) -> None:
        """Drop the requests of a worker's process that was killed."""
        for _ in range(self._busy.pop(worker, 0)):
            self._pace.end(0.0)


class SharedPace:
    """The keeper's pace as the command uses it: with the methods and attributes of `Pace`.

    Args:
        keeper: The actor.
        say: Receives each line of text that the user should see.
    """

    def __init__(self, keeper: Any, say: Callable[[str], None]) -> None:
        self._keeper, self._say = keeper, say
        self._last: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        """Return a bound method, or the present value of an attribute."""
        if callable(getattr(Pace, name, None)):
            return partial(self._call, name)
        try:
            self._last[name] = self._call(name)
        except ConnectionFailedError:
            # The run has ended, and its metrics may be read once more.
            if name not in self._last:
                raise
        return self._last[name]

    def _call(self, name: str, *args: Any, **options: Any) -> Any:
        try:
            result, said = ray.get(self._keeper.call.remote(name, *args, **options))
        except ray.exceptions.RayError as error:
            raise ConnectionFailedError(
                "the Ray actor that keeps the pace of this run is gone",
                "run the same command again: it continues from here",
            ) from error
        for line in said:
            self._say(line)
        return result


class WorkerPace:
    """The keeper's pace as a worker's `PacedGallery` uses it.

    Args:
        keeper: The actor.
        worker: Name of the worker, the same after its process was killed and started again.
    """

    def __init__(self, keeper: Any, worker: str) -> None:
        self._keeper, self._worker = keeper, worker
        self.batch = 1
        self._state = State.OPEN
        keeper.forget.remote(worker)

    def wait(self, *, writes: bool) -> tuple[float, WaitReason]:
        """Begin a request; returns the seconds to wait before asking again (0 for none), and why.

        Raises:
            LeaseError: The command is gone, or has lost its lease.
        """
        try:
            answer = ray.get(self._keeper.ask.remote(self._worker, writes=writes))
        except ray.exceptions.RayActorError as error:
            raise LeaseError("the command that this worker belongs to is gone") from error
        seconds, reason, self.batch, self._state = answer
        if self._state is State.CLOSED:
            raise LeaseError("the command that this worker belongs to has lost its lease")
        return seconds, reason

    def begin(self) -> None:
        """Do nothing: `wait` has begun the request, so that no hold comes between."""

    def end(self, seconds: float, written: int = 0) -> None:
        """Note that a request ended, how many seconds it took and how many points it wrote."""
        self._keeper.end.remote(self._worker, seconds, written)

    def add_wait(self, reason: WaitReason, seconds: float, *, begins: bool) -> None:
        """Add a wait to the totals."""
        self._keeper.add_wait.remote(reason, seconds, begins=begins)

    def why_end(self) -> str:
        """Return a reason to end the task after the present batch, "" for none."""
        return "" if self._state is State.OPEN else self._state
