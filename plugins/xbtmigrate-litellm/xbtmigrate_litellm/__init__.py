"""Encoder plugin: the embeddings of every provider that LiteLLM speaks to."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from xbtmigrate.encoders.service_requests import (
    PassingFailureError,
    RefusedInputError,
    RequestPolicy,
    parse_retry_after,
)
from xbtmigrate.encoders.text_service import Embeddings, TextServiceEncoder
from xbtmigrate.errors import ConfigError, ConnectionFailedError, EncoderError
from xbtmigrate.types import digest_of
from xbtmigrate_litellm.providers import find_provider

__all__ = ["LiteLLMEncoder"]

_REPEATED_STATUS = {408, 409, 429}
_REFUSED_STATUS = {400, 413, 422}


class LiteLLMEncoder(TextServiceEncoder):
    """Texts embedded by a provider of LiteLLM, paid by the token.

    Args:
        model: LiteLLM's name of the model, "PROVIDER/NAME".
        api_base: Address of the service, if it is not the provider's.
        api_version: Version of the provider's API.
        api_key_env: Environment variable that holds the key; unset, the one that LiteLLM reads.
        dimensions: Shorten the vectors to this length, where the model can.
        query_input_type: What the provider is told that a query is; unset, its usual word for it,
            "" to tell nothing.
        passage_input_type: The same for documents.
        query_prefix: Put before every query.
        passage_prefix: Put before every document.
        max_items_per_request: Most texts in one request; unset, the provider's limit.
        max_tokens_per_request: Most tokens in one request, as estimated by `count_tokens`; unset,
            the provider's limit.
        requests_per_minute: Pace of the requests; unset, as fast as the service answers.
        tokens_per_minute: Pace of the tokens, as estimated by `count_tokens`; unset, the same.
        max_retries: Repetitions of one request after a rate limit, a server error or a lost
            connection.
        timeout_s: Longest wait for one answer, in seconds.
        price_per_million_tokens: What the service charges; unset, the price in LiteLLM's list.

    Raises:
        ConfigError: The model names no provider, the variable of the key is not set, or a number is
            out of range.
    """

    def __init__(  # noqa: PLR0913  the options of the config table, each by name
        self,
        *,
        model: str,
        api_base: str | None = None,
        api_version: str | None = None,
        api_key_env: str | None = None,
        dimensions: int | None = None,
        query_input_type: str | None = None,
        passage_input_type: str | None = None,
        query_prefix: str = "",
        passage_prefix: str = "",
        max_items_per_request: int | None = None,
        max_tokens_per_request: int | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        max_retries: int = 6,
        timeout_s: float = 60.0,
        price_per_million_tokens: float | None = None,
    ) -> None:
        self._litellm = _import_litellm()
        known = find_provider(*self._provider(model))
        if price_per_million_tokens is None:
            price_per_million_tokens = self._listed_price(model)
        self._policy = RequestPolicy(
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            max_retries=max_retries,
        )
        super().__init__(
            "litellm",
            dimensions=dimensions,
            query_prefix=query_prefix,
            passage_prefix=passage_prefix,
            max_items_per_request=(
                known.max_items if max_items_per_request is None else max_items_per_request
            ),
            max_tokens_per_request=self._policy.cap(
                known.max_tokens if max_tokens_per_request is None else max_tokens_per_request
            ),
            price_per_million_tokens=price_per_million_tokens,
        )
        self._model = model
        given = {"api_base": api_base, "api_version": api_version, "dimensions": dimensions}
        self._options = {name: value for name, value in given.items() if value is not None}
        if api_key_env:
            self._options["api_key"] = _key(api_key_env)
        self._timeout_s = timeout_s
        self._option = known.option or "input_type"
        self._query_type = known.query if query_input_type is None else query_input_type
        self._passage_type = known.passage if passage_input_type is None else passage_input_type
        # Whatever changes the vectors of a document or a query.
        identity = [model, api_base, dimensions, self._query_type, self._passage_type]
        digest = digest_of([repr([*identity, query_prefix, passage_prefix])])
        self.fingerprint = f"litellm:{model}:{digest}"

    def request(self, texts: list[str], *, is_query: bool) -> Embeddings:
        """Embed texts in one request, repeated while that can help."""
        return self._policy.send(
            lambda: self._embed(texts, is_query=is_query), self.count_tokens(texts)
        )

    def _embed(self, texts: list[str], *, is_query: bool) -> Embeddings:
        input_type = self._query_type if is_query else self._passage_type
        try:
            response = self._litellm.embedding(
                model=self._model,
                input=texts,
                timeout=self._timeout_s,
                max_retries=0,
                **self._options,
                **({self._option: input_type} if input_type else {}),
            )
            return _answer(response, len(texts))
        except (KeyError, TypeError, ValueError) as error:
            raise EncoderError(
                f"{self._model} answered with no embeddings: {error}",
                "check model and api_base",
            ) from error
        # LiteLLM derives its errors from those of openai and gives each a status.
        except self._litellm.exceptions.openai.OpenAIError as error:
            raise self._translated(error) from error

    def _translated(self, error: Any) -> Exception:
        status = int(getattr(error, "status_code", None) or 500)
        text = f"{self._model} failed with {status}: {error}"
        if status in _REFUSED_STATUS:
            return RefusedInputError(text)
        if status in {401, 403}:
            return ConnectionFailedError(text, "check the key and what it is allowed to do")
        if status == 404:
            return EncoderError(text, "check model and api_base")
        hint = (
            "check the network and the quota, or lower requests_per_minute or tokens_per_minute; "
            "running again asks only for what is missing"
        )
        # OpenAI answers an exhausted quota with 429 like a rate limit, but no waiting refills it.
        # LiteLLM keeps this code in the answer alone.
        exhausted = "insufficient_quota" in getattr(getattr(error, "response", None), "text", "")
        if not exhausted and (status in _REPEATED_STATUS or status >= 500):
            return PassingFailureError(text, hint, _retry_after(error))
        return ConnectionFailedError(text, hint)

    def _provider(self, model: str) -> tuple[str, str]:
        """Names of the provider and of its model."""
        try:
            name, provider, *_ = self._litellm.get_llm_provider(model)
        except self._litellm.exceptions.openai.OpenAIError as error:
            raise ConfigError(
                f"LiteLLM knows no provider of the model {model}",
                'write "PROVIDER/NAME", such as "cohere/embed-v4.0"',
            ) from error
        return str(provider), str(name)

    def _listed_price(self, model: str) -> float | None:
        """Price of a million tokens in LiteLLM's list; None if the model is not in it."""
        # Some models are listed with their provider, others without.
        for name in (model, self._provider(model)[1]):
            price = self._litellm.model_cost.get(name, {}).get("input_cost_per_token")
            if price is not None:
                return float(price) * 1e6
        return None


def _import_litellm() -> Any:
    # Otherwise LiteLLM fetches its list of prices from the network whenever it is imported.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        # Imported on use, since it takes seconds.
        import litellm
    except ImportError as error:
        raise EncoderError(
            f"litellm cannot be imported: {error}", "pip install xbtmigrate-litellm"
        ) from error
    # It prints advice to the standard output at every error, which belongs to the JSON output.
    litellm.suppress_debug_info = True
    # Its own repetitions would hide requests from the pace; it takes `max_retries=0` of a request
    # for none given, and this instead.
    litellm.DEFAULT_MAX_RETRIES = 0
    return litellm


def _key(variable: str) -> str:
    key = os.environ.get(variable, "")
    if not key:
        raise ConfigError(
            f"the environment variable {variable} is not set",
            "put the key of the service into it, or leave out api_key_env",
        )
    return key


def _answer(response: Any, count: int) -> Embeddings:
    rows = list(response.data)
    if len(rows) != count:
        raise ValueError(f"{len(rows)} vectors for {count} texts")
    # OpenAI's protocol numbers the vectors and promises no order; LiteLLM numbers those of some
    # other providers all alike, in the order of the texts.
    if sorted(row["index"] for row in rows) == list(range(count)):
        rows.sort(key=lambda row: row["index"])
    vectors = np.array([row["embedding"] for row in rows], np.float32)
    return Embeddings(vectors, response.usage.total_tokens if response.usage else 0)


def _retry_after(error: Any) -> float | None:
    """Seconds that the service asks to wait, None if it does not say."""
    # LiteLLM rebuilds the answer of some providers without its headers and keeps them beside it.
    for headers in (
        getattr(error, "litellm_response_headers", None),
        getattr(getattr(error, "response", None), "headers", None),
    ):
        if headers and headers.get("retry-after"):
            return parse_retry_after(headers.get("retry-after"))
    return None
