"""Encoder plugin: one request to an embeddings endpoint of OpenAI's protocol, errors translated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import openai

from xbtmigrate.encoders.service_requests import (
    PassingFailureError,
    RefusedInputError,
    RequestPolicy,
    parse_retry_after,
)
from xbtmigrate.encoders.text_service import Embeddings
from xbtmigrate.errors import ConnectionFailedError, EncoderError

if TYPE_CHECKING:
    from openai.types import CreateEmbeddingResponse

# Timeout, conflict and rate limit: what the client library itself would repeat.
_REPEATED_STATUS = {408, 409, 429}
_REFUSED_STATUS = {400, 413, 422}


@dataclass(kw_only=True)
class EmbeddingService:
    """The embeddings endpoint of one service.

    Attributes:
        base_url: Address of the service.
        api_key: Its key.
        dimensions: Length of vectors to ask for, None for the model's own.
        timeout_s: Longest wait for one answer, in seconds.
        policy: Pace and repetitions of the requests.
    """

    base_url: str
    api_key: str
    dimensions: int | None
    timeout_s: float
    policy: RequestPolicy

    def embed(self, model: str, texts: list[str], tokens: int) -> Embeddings:
        """Embed texts of about so many tokens in one request, repeated while that can help.

        Raises:
            RefusedInputError: The service takes the key, but not this request.
            ConnectionFailedError: It cannot be reached, refuses the key, or has no quota left.
            EncoderError: It does not know the model, or answers with something else.
        """
        # Before the pace begins: making the client takes as long as a short request.
        client = self._client
        return self.policy.send(lambda: self._embed(client, model, texts), tokens)

    def _embed(self, client: openai.OpenAI, model: str, texts: list[str]) -> Embeddings:
        try:
            response = client.embeddings.create(
                model=model,
                input=texts,
                dimensions=openai.omit if self.dimensions is None else self.dimensions,
            )
            return _answer(response, len(texts))
        except openai.APIStatusError as error:
            raise self._translated(error) from error
        # The message is always "Connection error."; only the cause tells one from another.
        except openai.APIConnectionError as error:
            raise PassingFailureError(
                f"cannot reach {self.base_url}: {error.__cause__ or error}",
                "check base_url and the network; running again asks only for what is missing",
            ) from error
        except (openai.OpenAIError, ValueError, TypeError, AttributeError) as error:
            raise EncoderError(
                f"{self.base_url} answered with no embeddings: {error}",
                "check that base_url speaks the OpenAI protocol",
            ) from error

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
        hint = "lower requests_per_minute or tokens_per_minute, or check the quota, then run again"
        # An exhausted quota is answered with 429 like a rate limit, but no waiting refills it.
        exhausted = error.code == "insufficient_quota"
        if not exhausted and (error.status_code in _REPEATED_STATUS or error.status_code >= 500):
            waiting = parse_retry_after(error.response.headers.get("retry-after"))
            return PassingFailureError(text, hint, waiting)
        return ConnectionFailedError(text, hint)


def _answer(response: CreateEmbeddingResponse, count: int) -> Embeddings:
    # The protocol numbers the vectors and promises no order.
    rows = sorted(response.data, key=lambda row: row.index)
    if [row.index for row in rows] != list(range(count)):
        raise ValueError(f"{len(rows)} vectors for {count} texts, or unclear which is which")
    vectors = np.array([row.embedding for row in rows], np.float32)
    # Some compatible services leave out `usage`; nothing is counted for them.
    return Embeddings(vectors, response.usage.total_tokens if response.usage else 0)
