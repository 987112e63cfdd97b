"""Qdrant: the one policy for requests that fail: which are repeated, when, and for how long.

Every request passes through `Connection.call` or `write`, which repeat it by this policy. A server
that asks to be left alone is obeyed for long; one that is away or fails, for about half a minute.
A request whose repetition would not be harmless goes through `unless_done`.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from qdrant_client import models
from tenacity import RetryCallState, Retrying

from xbtmigrate.backfill.pace import Pause, Reason
from xbtmigrate.qdrant.wire.server_errors import SERVER_ERRORS, retry_after, said_by, status_of

T = TypeVar("T")

ATTEMPTS = 8
"""Attempts of a request that a run depends on."""
BRIEF = 3
"""Attempts of a request that something else makes up for, such as the next heartbeat; and of the
first one to a server, where a wrong address is likelier than an outage."""

DONE = models.UpdateResult(status=models.UpdateStatus.COMPLETED)
"""What a write returns that took effect."""

_log = logging.getLogger(__name__)
_MAX_WAIT = 60.0
_SILENT = 3.0
_REPEATED = 10.0
_REFUSALS = 10
"""Refusals for want of capacity that count as one failed attempt."""


def unless_done(request: Callable[[], T], done: Callable[[], T | None]) -> Callable[[], T]:
    """Make a request repeatable whose repetition is refused, or would take effect twice.

    Args:
        request: The request, such as one that creates a collection.
        done: Looks whether it took effect, and returns what `request` would have; None if not.
            It is called before each repetition, and when one is refused: the first attempt may
            still have been at work.
    """
    tried = False

    def send() -> T:
        nonlocal tried
        repeated, tried = tried, True
        if repeated and (found := done()) is not None:
            return found
        try:
            return request()
        except SERVER_ERRORS:
            if repeated and (found := done()) is not None:
                return found
            raise

    return send


class Patience:
    """Tries requests again, and remembers what was waited for.

    Attributes:
        pauses: Number and seconds of the waits so far, by reason.
    """

    def __init__(self) -> None:
        self.pauses: dict[Reason, Pause] = {}
        self._said = 0.0
        self._lock = threading.Lock()

    def retrying(
        self, url: str, attempts: int, retry: Callable[[RetryCallState], bool]
    ) -> Retrying:
        """Return what tries a request again.

        Args:
            url: Address of the server, for messages.
            attempts: How often a request is tried.
            retry: Whether an outcome may be another one next time.
        """
        failed = 0.0

        def stop(state: RetryCallState) -> bool:
            nonlocal failed
            failed += 1 / _REFUSALS if _is_refusal(state) else 1
            return failed >= attempts

        return Retrying(
            retry=retry,
            stop=stop,
            wait=_seconds_to_wait,
            before_sleep=lambda state: self._note(state, url),
            reraise=True,
        )

    def _note(self, state: RetryCallState, url: str) -> None:
        """Count a wait; say it if it is long, but not over and over."""
        seconds = state.upcoming_sleep
        refused = _is_refusal(state)
        reason = Reason.SERVER_LIMIT if refused else Reason.SERVER_AWAY
        with self._lock:
            before = self.pauses.get(reason, Pause())
            self.pauses[reason] = before.plus(int(state.attempt_number == 1), seconds)
            now = time.monotonic()
            waited = (state.seconds_since_start or 0.0) + seconds
            silent = waited < _SILENT or (self._said and now - self._said < _REPEATED)
            if silent:
                return
            self._said = now
        what = "asks for fewer requests" if refused else "does not answer"
        _log.warning(
            "Qdrant at %s %s (%s); trying again for %.0f s so far", url, what, _said(state), waited
        )


def _is_refusal(state: RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    return error is not None and status_of(error) == 429


def _seconds_to_wait(state: RetryCallState) -> float:
    """Double from 0.2 s to 10 s, with jitter; longer where the server's Retry-After says so.

    What is refused again waits twice as long: a server charges a request of many operations one by
    one, refuses it in the middle, and names the time until the next one alone.
    """
    spread: float = random.uniform(0.5, 1.0)  # noqa: S311
    least = spread * min(0.2 * 2.0**state.attempt_number, 10.0)
    named = retry_after(state.outcome.exception() if state.outcome else None) or 0.0
    return max(least, min(named * 2.0 ** (state.attempt_number - 1), _MAX_WAIT))


def _said(state: RetryCallState) -> str:
    error: Any = state.outcome.exception() if state.outcome else None
    return "the write is not applied" if error is None else said_by(error)
