"""Encoder plugin: OpenAI's embeddings, or any service that speaks the same protocol."""

from __future__ import annotations

import os

from xbtmigrate.encoders.service_requests import RequestPolicy
from xbtmigrate.encoders.text_service import Embeddings, TextServiceEncoder
from xbtmigrate.errors import ConfigError
from xbtmigrate.types import digest_of
from xbtmigrate_openai.service import EmbeddingService

__all__ = ["OpenAIEncoder"]


class OpenAIEncoder(TextServiceEncoder):
    """Texts embedded by a service of OpenAI's protocol, paid by the token.

    Args:
        model: Name of the model.
        query_model: Name of the model for queries, at a service that tells queries from documents
            by it; unset, the same.
        base_url: Address of the service.
        api_key_env: Environment variable that holds the key; "" for a service without keys.
        dimensions: Shorten the vectors to this length, where the model can.
        query_prefix: Put before every query.
        passage_prefix: Put before every document.
        max_items_per_request: Most texts in one request.
        max_tokens_per_request: Most tokens in one request, as estimated by `count_tokens`.
        requests_per_minute: Pace of the requests; unset, as fast as the service answers.
        tokens_per_minute: Pace of the tokens, as estimated by `count_tokens`; unset, the same.
        max_retries: Repetitions of one request after a rate limit, a server error or a lost
            connection.
        timeout_s: Longest wait for one answer, in seconds.
        price_per_million_tokens: What the service charges; enables `cost`.

    Raises:
        ConfigError: The variable of the key is not set, or a number is out of range.
    """

    def __init__(  # noqa: PLR0913  the options of the config table, each by name
        self,
        *,
        model: str,
        query_model: str | None = None,
        base_url: str = "https://api.openai.com/v1",
        api_key_env: str = "OPENAI_API_KEY",
        dimensions: int | None = None,
        query_prefix: str = "",
        passage_prefix: str = "",
        max_items_per_request: int = 512,
        max_tokens_per_request: int = 200_000,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        max_retries: int = 6,
        timeout_s: float = 60.0,
        price_per_million_tokens: float | None = None,
    ) -> None:
        policy = RequestPolicy(
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            max_retries=max_retries,
        )
        super().__init__(
            "openai",
            dimensions=dimensions,
            query_prefix=query_prefix,
            passage_prefix=passage_prefix,
            max_items_per_request=max_items_per_request,
            max_tokens_per_request=policy.cap(max_tokens_per_request),
            price_per_million_tokens=price_per_million_tokens,
        )
        # An empty key makes no valid header, so a service without keys is sent a word in its place.
        key = os.environ.get(api_key_env, "") if api_key_env else "none"
        if not key:
            raise ConfigError(
                f"the environment variable {api_key_env} is not set",
                'put the key of the service into it, or set api_key_env = ""',
            )
        self._service = EmbeddingService(
            base_url=base_url,
            api_key=key,
            dimensions=dimensions,
            timeout_s=timeout_s,
            policy=policy,
        )
        # Shortened vectors are another space, so their length is part of the identity.
        identity = [base_url.rstrip("/"), model, str(dimensions)]
        # Without prefixes, the identity that earlier migrations recorded.
        if query_prefix or passage_prefix:
            identity += [query_prefix, passage_prefix]
        if query_model is not None:
            identity.append(f"queries by {query_model}")
        self._models = {True: query_model or model, False: model}
        self.fingerprint = f"openai:{model}:{digest_of(identity)}"

    def request(self, texts: list[str], *, is_query: bool) -> Embeddings:
        """Embed texts in one request, repeated while that can help."""
        return self._service.embed(self._models[is_query], texts, self.count_tokens(texts))
