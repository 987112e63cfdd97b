"""Encoder plugin: OpenAI's embeddings, or any service that speaks the same protocol."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from xbtmigrate.errors import ConfigError, EncoderError, UnreadableSourceError
from xbtmigrate.types import Modality, PointId, Vectors, digest_of
from xbtmigrate_openai.service import Embeddings, EmbeddingService, RefusedInputError

__all__ = ["OpenAIEncoder"]

# A token of OpenAI is about 4 characters of English text. The higher first estimate keeps requests
# within the limit until the service has charged for some.
_FIRST_TOKENS_PER_BYTE = 1 / 3
_PROBE = "probe"


class OpenAIEncoder:
    """Texts embedded by a service, paid by the token.

    What the service has answered is kept until it is handed over: when a later request of the same
    call fails, calling again with the same texts asks only for the rest. Equal texts of one call
    are asked once.

    Args:
        model: Name of the model.
        base_url: Address of the service.
        api_key_env: Environment variable that holds the key; "" for a service without keys.
        dimensions: Shorten the vectors to this length, where the model can.
        max_items_per_request: Most texts in one request.
        max_tokens_per_request: Most tokens in one request, as estimated by `count_tokens`.
        requests_per_minute: Pace of the requests; unset, as fast as the service answers.
        max_retries: Repetitions of one request after a rate limit, a server error or a lost
            connection.
        timeout_s: Longest wait for one answer, in seconds.
        price_per_million_tokens: What the service charges; enables `cost`.

    Raises:
        ConfigError: The variable of the key is not set, or a number is out of range.

    Attributes:
        tokens_used: Tokens the service has charged for so far.
        price_per_million_tokens: The price given, None if unknown.
    """

    def __init__(  # noqa: PLR0913  the options of the config table, each by name
        self,
        *,
        model: str,
        base_url: str = "https://api.openai.com/v1",
        api_key_env: str = "OPENAI_API_KEY",
        dimensions: int | None = None,
        max_items_per_request: int = 512,
        max_tokens_per_request: int = 200_000,
        requests_per_minute: float | None = None,
        max_retries: int = 6,
        timeout_s: float = 60.0,
        price_per_million_tokens: float | None = None,
    ) -> None:
        limits = [max_items_per_request, max_tokens_per_request, dimensions or 1]
        if min(limits) < 1 or max_retries < 0 or (requests_per_minute or 1) <= 0:
            raise ConfigError("limits must be positive", "correct the option")
        # An empty key makes no valid header, so a service without keys is sent a word in its place.
        key = os.environ.get(api_key_env, "") if api_key_env else "none"
        if not key:
            raise ConfigError(
                f"the environment variable {api_key_env} is not set",
                'put the key of the service into it, or set api_key_env = ""',
            )
        self._service = EmbeddingService(
            model=model,
            base_url=base_url,
            api_key=key,
            dimensions=dimensions,
            interval_s=60 / requests_per_minute if requests_per_minute else 0.0,
            attempts=max_retries + 1,
            timeout_s=timeout_s,
        )
        # Shortened vectors are another space, so their length is part of the identity.
        identity = [base_url.rstrip("/"), model, str(dimensions)]
        self.fingerprint = f"openai:{model}:{digest_of(identity)}"
        self.price_per_million_tokens = price_per_million_tokens
        self.tokens_used = 0
        self._bytes_used = 0
        self._dimension = dimensions
        self._max_items, self._max_tokens = max_items_per_request, max_tokens_per_request
        self._answered: dict[str, Vectors] = {}

    @property
    def dimension(self) -> int:
        """Length of the vectors; unless given or seen, it is asked with a text of one token."""
        if self._dimension is None:
            self._ask([_PROBE])
        return self._dimension or 0

    @property
    def cost(self) -> float | None:
        """Money spent so far, in the currency of the price; None without a price."""
        price = self.price_per_million_tokens
        return None if price is None else self.tokens_used * price / 1e6

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Estimate the tokens of texts, from the ratio charged so far (at first 3 bytes each)."""
        known = self._bytes_used and self.tokens_used
        ratio = self.tokens_used / self._bytes_used if known else _FIRST_TOKENS_PER_BYTE
        return sum(max(1, math.ceil(_size(text) * ratio)) for text in texts)

    def encode(
        self, items: Sequence[str], modality: Modality, *, ids: Sequence[PointId] | None = None
    ) -> Vectors:
        """Embed texts; see `xbtmigrate.protocols.Encoder.encode`.

        Raises:
            UnreadableSourceError: Empty texts, or texts the service refuses, such as too long ones.
            ConnectionFailedError: The service cannot be reached, or refuses the key.
            EncoderError: The items are images, or the service answers with something else.
        """
        del ids
        if modality is not Modality.TEXT:
            raise EncoderError(
                "the encoder openai takes texts alone", 'use the encoder "open_clip" for images'
            )
        refused = {text: flaw for text in items if (flaw := _flaw(text))}
        # Each text is paid for once, however often it occurs.
        wanted = [text for text in dict.fromkeys(items) if text not in refused]
        missing = [text for text in wanted if text not in self._answered]
        # As a list: `count_tokens` changes with every answer and would move the cuts.
        for part in list(self._requests(missing)):
            refused |= self._settle(part)
        failures = {row: refused[text] for row, text in enumerate(items) if text in refused}
        if failures:
            raise UnreadableSourceError(failures)
        vectors = np.array([self._answered[text] for text in items], np.float32)
        # Forgotten once handed over: what is kept would otherwise grow with the collection.
        for text in wanted:
            del self._answered[text]
        return vectors.reshape(len(items), self.dimension)

    def _requests(self, texts: Sequence[str]) -> Iterator[list[str]]:
        """Cut texts into requests within both limits; a single long text stands alone."""
        part: list[str] = []
        tokens = 0
        for text in texts:
            size = self.count_tokens([text])
            if part and (len(part) == self._max_items or tokens + size > self._max_tokens):
                yield part
                part, tokens = [], 0
            part.append(text)
            tokens += size
        if part:
            yield part

    def _settle(self, texts: list[str]) -> Mapping[str, str]:
        """Get vectors for all texts that the service takes; returns the others with the reason."""
        try:
            self._ask(texts)
        except RefusedInputError as error:
            # Where nothing was ever accepted the options may be at fault, and halving would send
            # every text alone to find that out.
            if not self._bytes_used:
                self._probe(error)
            if len(texts) == 1:
                return {texts[0]: str(error)}
            # A refusal names no text; halving finds the one at fault in 2 log2(n) requests.
            middle = len(texts) // 2
            return {**self._settle(texts[:middle]), **self._settle(texts[middle:])}
        return {}

    def _probe(self, refusal: RefusedInputError) -> None:
        """Tell refused texts from refused options: the service must take one harmless text."""
        try:
            self._ask([_PROBE])
        except RefusedInputError as error:
            raise EncoderError(
                f"the service refuses every request: {error}", "check model and dimensions"
            ) from refusal

    def _ask(self, texts: list[str]) -> None:
        answer = self._service.embed(texts)
        # Counted before the check, because an unusable answer is charged for, too.
        self.tokens_used += answer.tokens
        self._bytes_used += sum(map(_size, texts))
        self._check(answer, len(texts))
        self._answered.update(zip(texts, answer.vectors, strict=True))

    def _check(self, answer: Embeddings, count: int) -> None:
        self._dimension = self._dimension or answer.vectors.shape[1]
        if answer.vectors.shape != (count, self._dimension):
            raise EncoderError(
                f"the service answered {answer.vectors.shape[0]} vectors of length"
                f" {answer.vectors.shape[1]}; {count} of length {self._dimension} were requested",
                "check model and dimensions; not every service can shorten vectors",
            )
        if not np.isfinite(answer.vectors).all():
            raise EncoderError("the service answered NaN", "try again, or use another model")


def _flaw(text: str) -> str:
    """Why a text cannot even be sent; "" if it can."""
    if not text.strip():
        return "the text is empty"
    # A lone surrogate passes through JSON as an escape, but has no UTF-8.
    try:
        text.encode()
    except UnicodeEncodeError:
        return "the text is not valid Unicode"
    return ""


def _size(text: str) -> int:
    # Tokens may be counted for texts that `_flaw` would refuse.
    return len(text.encode("utf-8", "surrogatepass"))
