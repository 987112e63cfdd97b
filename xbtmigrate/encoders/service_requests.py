"""Send the requests of an embedding service, paced and with retries."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import tenacity

from xbtmigrate.errors import ConfigError, ConnectionFailedError

_MAX_WAIT_S = 600.0
_Answer = TypeVar("_Answer")


class RefusedInputError(Exception):
    """The service refuses the content of a request; nothing is charged."""


class PassingFailureError(ConnectionFailedError):
    """A transient failure: a rate limit, a lost connection.

    Attributes:
        retry_after_s: How long the service asks to wait, in seconds; None if it does not say.
    """

    def __init__(self, message: str, hint: str, retry_after_s: float | None = None) -> None:
        super().__init__(message, hint)
        self.retry_after_s = retry_after_s


@dataclass(kw_only=True)
class RequestPolicy:
    """Limits on the rate of requests and on retries.

    Attributes:
        requests_per_minute: Most requests a minute, None for any number.
        tokens_per_minute: Most tokens a minute, None for any number.
        max_retries: Most repetitions of one request.

    Raises:
        ConfigError: A number is out of range.
    """

    requests_per_minute: float | None
    tokens_per_minute: float | None
    max_retries: int

    _next_start: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        rates = [self.requests_per_minute, self.tokens_per_minute]
        if self.max_retries < 0 or any(rate is not None and rate <= 0 for rate in rates):
            raise ConfigError("limits must be positive", "correct the option")

    def cap(self, max_tokens: int) -> int:
        """Return the most tokens of one request: a service refuses more than a minute allows."""
        return (
            max_tokens
            if self.tokens_per_minute is None
            else min(max_tokens, max(1, int(self.tokens_per_minute)))
        )

    def send(self, request: Callable[[], _Answer], tokens: int) -> _Answer:
        """Send a request, and again after each `PassingFailureError` while that can help.

        Args:
            request: Sends it once.
            tokens: About how many tokens it has.

        Raises:
            PassingFailureError: It failed too often, or the service asks for a wait of more than
                10 minutes.
        """
        repeated = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_may_pass),
            wait=_wait,
            stop=tenacity.stop_after_attempt(self.max_retries + 1),
            reraise=True,
        )
        answer: _Answer = repeated(self._send, request, tokens)
        return answer

    def _send(self, request: Callable[[], _Answer], tokens: int) -> _Answer:
        now = time.monotonic()
        time.sleep(max(0.0, self._next_start - now))
        # From start to start, so that a slow answer does not add to the interval; idle time earns
        # no burst afterwards.
        by_request = 60 / self.requests_per_minute if self.requests_per_minute else 0.0
        by_token = 60 * tokens / self.tokens_per_minute if self.tokens_per_minute else 0.0
        self._next_start = max(now, self._next_start) + max(by_request, by_token)
        return request()


def parse_retry_after(value: str | None) -> float | None:
    """Seconds that `Retry-After` asks to wait: a number, or a date (RFC 9110, section 10.2.3)."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _may_pass(error: BaseException) -> bool:
    """Whether a retry may succeed within a reasonable wait."""
    return isinstance(error, PassingFailureError) and (error.retry_after_s or 0) <= _MAX_WAIT_S


def _wait(state: tenacity.RetryCallState) -> float:
    """Wait as long as the service says, else longer each time."""
    error = state.outcome.exception() if state.outcome else None
    said = error.retry_after_s if isinstance(error, PassingFailureError) else None
    # Random, so that clients that were refused together do not retry together.
    return tenacity.wait_random_exponential(0.5, max=60)(state) if said is None else said
