"""Send requests to an open Qdrant, server or embedded, and retry those that may still succeed.

Every request passes through `Connection.call` or `write`, which repeat it by one policy. A server
that answers 429 is retried for long; one that is unreachable or fails, for about half a minute. A
request that is not safe to repeat goes through `make_repeatable`.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, TypeVar

from qdrant_client import QdrantClient, models
from tenacity import RetryCallState, RetryError, Retrying, retry_if_exception, retry_if_result

from xbtmigrate.backfill.pace import Pause, WaitReason
from xbtmigrate.errors import ConnectionFailedError
from xbtmigrate.qdrant.wire.server_errors import (
    EMBEDDED_ERRORS,
    SERVER_ERRORS,
    is_transient,
    retry_after,
    server_message,
    status_of,
    translate_error,
)
from xbtmigrate.qdrant.wire.transport import Rest, Rpc

T = TypeVar("T")
Version: TypeAlias = tuple[int, int, int]

OLDEST: Version = (1, 13, 0)
"""Oldest supported server: the first with has_vector, which every exact count needs."""
# First versions of features that the tool uses if present; docs/servers.md has the table.
METADATA: Version = (1, 16, 0)
CONDITIONAL_UPSERT: Version = (1, 16, 0)
ADD_VECTOR: Version = (1, 18, 0)
DROP_VECTOR: Version = (1, 19, 0)
"""Servers of 1.18 can do it too, but may lose points that were not flushed (qdrant#9105)."""

ATTEMPTS = 8
"""Attempts of a request that a run depends on."""
BRIEF_ATTEMPTS = 3
"""Attempts of a request whose failure does no harm, such as a heartbeat; and of the
first one to a server, where a wrong address is likelier than an outage."""

MEDIUM = models.WriteOrdering.MEDIUM
"""Writes pass through one leader per shard, so replicas see them in the same order."""
DONE = models.UpdateResult(status=models.UpdateStatus.COMPLETED)
"""Status of a write that took effect."""

_log = logging.getLogger(__name__)
# Longest single wait in seconds; a longer Retry-After is cut to it (docs/safety.md).
_MAX_WAIT = 60.0
# Seconds a request waits before the first warning, and seconds between two warnings.
_SILENT = 3.0
_REPEATED = 10.0
# A 429 means "slow down", not "broken": a busy server delays a run, and ends it only after 80
# refusals of one request (docs/load.md).
_REFUSALS = 10
"""Refusals for lack of capacity that count as one failed attempt."""


class RetryPolicy:
    """Retry requests, and add up the waits by reason.

    Attributes:
        pauses: Number and seconds of the waits so far, by reason.
    """

    def __init__(self) -> None:
        self.pauses: dict[WaitReason, Pause] = {}
        self._said = 0.0
        self._lock = threading.Lock()

    def run(
        self,
        request: Callable[[], T],
        url: str,
        attempts: int,
        retry: Callable[[RetryCallState], bool],
    ) -> T:
        """Send a request, and retry it if it fails for a transient reason.

        Args:
            request: The request.
            url: Address of the server, for messages.
            attempts: How often a request is tried.
            retry: Whether an outcome may be another one next time.
        """
        failed = 0.0

        def stop(state: RetryCallState) -> bool:
            nonlocal failed
            failed += 1 / _REFUSALS if _is_refusal(state) else 1
            return failed >= attempts

        retrying = Retrying(
            retry=retry,
            stop=stop,
            wait=_seconds_to_wait,
            before_sleep=lambda state: self._note(state, url),
            # A failed last attempt raises its own error; RetryError remains for unconfirmed writes.
            reraise=True,
        )
        return retrying(request)

    def _note(self, state: RetryCallState, url: str) -> None:
        """Count a wait, and log a warning if it is long, at most every ten seconds."""
        seconds = state.upcoming_sleep
        refused = _is_refusal(state)
        reason = WaitReason.SERVER_LIMIT if refused else WaitReason.SERVER_AWAY
        with self._lock:
            before = self.pauses.get(reason, Pause())
            # All attempts of a request are one wait: the first is counted, each adds its seconds.
            self.pauses[reason] = before.plus(int(state.attempt_number == 1), seconds)
            now = time.monotonic()
            waited = (state.seconds_since_start or 0.0) + seconds
            # Several threads wait for the same server; one warning is enough for all of them.
            silent = waited < _SILENT or (self._said and now - self._said < _REPEATED)
            if silent:
                return
            self._said = now
        what = "asks for fewer requests" if refused else "does not answer"
        _log.warning(
            "Qdrant at %s %s (%s); trying again for %.0f s so far", url, what, _said(state), waited
        )


@dataclass(frozen=True, slots=True)
class Connection:
    """An open Qdrant; close it with `close`, or use it in a `with` block.

    Attributes:
        client: The client library's own object.
        mode: An embedded folder, locked for this process, or a server shared with others.
        version: Version of the server; of the client library in the embedded mode.
        url: Address as the user gave it, for messages.
        attempts: How often a request is tried when the failure may pass.
        passing: Tells whether a failure may pass.
        rest: The server's REST interface as bytes; None where only gRPC answers, or embedded.
        rpc: The server's gRPC interface as bytes, not yet trusted to lead to the same server unless
            the user asked for gRPC; None in the embedded mode.
        lock: Held by each request to an embedded database, which takes one at a time.
        retries: The retry policy, with the waits so far.
    """

    client: QdrantClient
    mode: Literal["embedded", "server"]
    version: Version
    url: str
    attempts: int = ATTEMPTS
    passing: Callable[[BaseException], bool] = is_transient
    rest: Rest | None = None
    rpc: Rpc | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    retries: RetryPolicy = field(default_factory=RetryPolicy)

    @property
    def embedded(self) -> bool:
        """Whether the database is embedded in this process."""
        return self.mode == "embedded"

    def at_least(self, version: Version) -> bool:
        """Whether the server is of this version or newer."""
        return self.version >= version

    def brief(self) -> Connection:
        """Return the connection with fewer attempts, for requests whose failure does no harm."""
        return replace(self, attempts=BRIEF_ATTEMPTS)

    def call(self, request: Callable[[], T]) -> T:
        """Send a request; retry transient failures.

        Raises:
            XbtMigrateError: The failure stays; its message says what it means.
        """
        retry = retry_if_exception(self.passing)
        return self._send(lambda: self.retries.run(request, self.url, self.attempts, retry))

    def write(
        self, request: Callable[[], models.UpdateResult | Sequence[models.UpdateResult]]
    ) -> None:
        """Send a write and return once it is applied; "acknowledged" alone is not enough.

        Raises:
            XbtMigrateError: The failure stays, or the server never confirms.
        """
        # A write sets values by id: repeating one that is still queued changes nothing.
        retry = retry_if_exception(self.passing) | retry_if_result(_is_unconfirmed)
        if self.embedded:
            with self.lock:
                # Before every write: each collection has its own SQLite file, and one may be new.
                use_write_ahead_log(self.client)
        try:
            self._send(lambda: self.retries.run(request, self.url, self.attempts, retry))
        except RetryError as error:
            raise ConnectionFailedError(
                f"Qdrant at {self.url} accepts writes but does not apply them in time",
                "wait until its update queue is shorter, then run the same command again",
            ) from error

    def close(self) -> None:
        """Close the connection, and release the lock of an embedded folder."""
        if self.rest is not None:
            self.rest.close()
        if self.rpc is not None:
            self.rpc.close()
        self.client.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, request: Callable[[], T]) -> T:
        # The embedded mode raises built-in errors; caught on a server, they would hide bugs of
        # ours.
        expected = EMBEDDED_ERRORS if self.embedded else SERVER_ERRORS
        try:
            if self.embedded:
                with self.lock:
                    return request()
            return request()
        except RetryError:
            raise
        except expected as error:
            raise translate_error(error, self.url) from error


def make_repeatable(request: Callable[[], T], done: Callable[[], T | None]) -> Callable[[], T]:
    """Make a request safe to repeat that would otherwise be refused, or take effect, twice.

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


def use_write_ahead_log(client: QdrantClient) -> None:
    """Switch the SQLite files of the embedded mode to write-ahead logging.

    The client commits every point by itself, and each commit waits for the disk. With a write-ahead
    log it does not: a killed process loses nothing, a power failure at most the last points, and
    the database stays consistent. Calling it again changes nothing.
    """
    local: Any = client._client
    for collection in local.collections.values():
        if collection.storage is not None:
            database = collection.storage.storage
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")


def _is_unconfirmed(result: models.UpdateResult | Sequence[models.UpdateResult]) -> bool:
    # `acknowledged` and `wait_timeout` mean that a write is queued, not that it is applied.
    results = [result] if isinstance(result, models.UpdateResult) else result
    return any(each.status != models.UpdateStatus.COMPLETED for each in results)


def _is_refusal(state: RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    return error is not None and status_of(error) == 429


def _seconds_to_wait(state: RetryCallState) -> float:
    """Double from 0.2 s to 10 s, with jitter; longer where the server's Retry-After says so.

    A request that is refused again waits twice as long: a server counts a request of many
    operations one by one, refuses it in the middle, and names the time until the next operation
    only.
    """
    # Jitter separates the threads of a run. The seven waits of eight attempts add up to 16 to 32 s.
    spread: float = random.uniform(0.5, 1.0)  # noqa: S311
    least = spread * min(0.2 * 2.0**state.attempt_number, 10.0)
    named = retry_after(state.outcome.exception() if state.outcome else None) or 0.0
    return max(least, min(named * 2.0 ** (state.attempt_number - 1), _MAX_WAIT))


def _said(state: RetryCallState) -> str:
    error: Any = state.outcome.exception() if state.outcome else None
    return "the write is not applied" if error is None else server_message(error)
