"""Qdrant: how long a request is tried again, and saying so while a person waits for it.

A server that asks to be left alone is obeyed for long; one that is away or fails, for a minute.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from tenacity import RetryCallState, Retrying

from xbtmigrate.pacing import Pause, Reason
from xbtmigrate.qdrant.failures import said_by, status_of

_log = logging.getLogger(__name__)
_LONGEST_WAIT = 60.0
_SILENT = 3.0
_REPEATED = 10.0
_REFUSALS = 10
"""Refusals for want of capacity that count as one failed attempt."""


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
    """Obey the server's Retry-After; else double from 0.2 s to 10 s, with jitter.

    What is refused again waits twice as long: a server charges a request of many operations one by
    one, refuses it in the middle, and names the time until the next one alone.
    """
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, ResourceExhaustedResponse):
        return min(float(error.retry_after_s) * 2.0 ** (state.attempt_number - 1), _LONGEST_WAIT)
    spread: float = random.uniform(0.5, 1.0)  # noqa: S311
    return spread * min(0.2 * 2.0**state.attempt_number, 10.0)


def _said(state: RetryCallState) -> str:
    error: Any = state.outcome.exception() if state.outcome else None
    return "the write is not applied" if error is None else said_by(error)
