"""Encoder plugin: one embeddings request, paced, repeated when that can help, errors translated."""

from __future__ import annotations

import email.utils
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import openai
import tenacity

from xbtmigrate.errors import ConnectionFailedError, EncoderError
from xbtmigrate.types import Vectors

if TYPE_CHECKING:
    from openai.types import CreateEmbeddingResponse

_MAX_WAIT_S = 600.0
# Timeout, conflict and rate limit: what the client library itself would repeat.
_REPEATED_STATUS = {408, 409, 429}
_REFUSED_STATUS = {400, 413, 422}


class RefusedInputError(Exception):
    """The service refuses the request for what is in it; nothing is charged."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors in the order of the texts, shape (n, d), and the tokens charged for them."""

    vectors: Vectors
    tokens: int


@dataclass(kw_only=True)
class EmbeddingService:
    """The embeddings endpoint of one service.

    Attributes:
        model: Name of the model.
        base_url: Address of the service.
        api_key: Its key.
        dimensions: Length of vectors to ask for, None for the model's own.
        interval_s: Least time between the starts of two requests, in seconds.
        attempts: Most times one request is sent.
        timeout_s: Longest wait for one answer, in seconds.
    """

    model: str
    base_url: str
    api_key: str
    dimensions: int | None
    interval_s: float
    attempts: int
    timeout_s: float

    _next_start: float = field(default=0.0, init=False)

    def embed(self, texts: list[str]) -> Embeddings:
        """Embed texts in one request, repeated while that can help.

        Raises:
            RefusedInputError: The service takes the key, but not this request.
            ConnectionFailedError: It cannot be reached, refuses the key, or has no quota left.
            EncoderError: It does not know the model, or answers with something else.
        """
        repeated = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_may_pass),
            wait=_wait,
            stop=tenacity.stop_after_attempt(self.attempts),
            reraise=True,
        )
        try:
            return _answer(repeated(self._send, texts), len(texts))
        except openai.APIStatusError as error:
            raise self._translated(error) from error
        # The message is always "Connection error."; only the cause tells one from another.
        except openai.APIConnectionError as error:
            raise ConnectionFailedError(
                f"cannot reach {self.base_url}: {error.__cause__ or error}",
                "check base_url and the network; running again asks only for what is missing",
            ) from error
        except (openai.OpenAIError, ValueError, TypeError, AttributeError) as error:
            raise EncoderError(
                f"{self.base_url} answered with no embeddings: {error}",
                "check that base_url speaks the OpenAI protocol",
            ) from error

    def _send(self, texts: list[str]) -> CreateEmbeddingResponse:
        client = self._client
        now = time.monotonic()
        time.sleep(max(0.0, self._next_start - now))
        # From start to start, so that a slow answer does not add to the interval; idle time earns
        # no burst afterwards.
        self._next_start = max(now, self._next_start) + self.interval_s
        return client.embeddings.create(
            model=self.model,
            input=texts,
            dimensions=openai.omit if self.dimensions is None else self.dimensions,
        )

    @cached_property
    def _client(self) -> openai.OpenAI:
        # The client's own repetitions would hide requests from the pace.
        return openai.OpenAI(
            api_key=self.api_key,
            base_url=self.base_url,
            timeout=self.timeout_s,
            max_retries=0,
        )

    def _translated(self, error: openai.APIStatusError) -> Exception:
        text = f"{self.base_url} answered {error.status_code}: {error.message}"
        if error.status_code in _REFUSED_STATUS:
            return RefusedInputError(text)
        if error.status_code in {401, 403}:
            return ConnectionFailedError(text, "check the key and what it is allowed to do")
        if error.status_code == 404:
            return EncoderError(text, "check model and base_url (it usually ends in /v1)")
        return ConnectionFailedError(
            text, "lower requests_per_minute or check the quota, then run again"
        )


def _answer(response: CreateEmbeddingResponse, count: int) -> Embeddings:
    # The protocol numbers the vectors and promises no order.
    rows = sorted(response.data, key=lambda row: row.index)
    if [row.index for row in rows] != list(range(count)):
        raise ValueError(f"{len(rows)} vectors for {count} texts, or unclear which is which")
    vectors = np.array([row.embedding for row in rows], np.float32)
    # Some compatible services leave out `usage`; nothing is counted for them.
    return Embeddings(vectors, response.usage.total_tokens if response.usage else 0)


def _may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, openai.APIStatusError):
        passing = error.status_code in _REPEATED_STATUS or error.status_code >= 500
        # An exhausted quota is answered with 429 like a rate limit, but no waiting refills it.
        exhausted = error.code == "insufficient_quota"
        return passing and not exhausted and (_retry_after(error) or 0) <= _MAX_WAIT_S
    return isinstance(error, openai.APIConnectionError)


def _wait(state: tenacity.RetryCallState) -> float:
    """Wait as long as the service says, else longer each time."""
    error = state.outcome.exception() if state.outcome else None
    said = _retry_after(error) if isinstance(error, openai.APIStatusError) else None
    # Random, so that clients refused together do not come back together.
    return tenacity.wait_random_exponential(0.5, max=60)(state) if said is None else said


def _retry_after(error: openai.APIStatusError) -> float | None:
    """Seconds that the service asks to wait: a number, or a date (RFC 9110, section 10.2.3)."""
    value = error.response.headers.get("retry-after")
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
