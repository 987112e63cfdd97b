"""Base of encoders that use a paid service: requests, and the handling of refused texts."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xbtmigrate.encoders.service_requests import RefusedInputError
from xbtmigrate.errors import ConfigError, EncoderError, UnreadableSourceError
from xbtmigrate.types import Modality, PointId, Vectors, is_unicode

# A token is about 4 characters of English text. The higher first estimate keeps requests within
# the limit until the service has charged for some.
_FIRST_TOKENS_PER_BYTE = 1 / 3
_PROBE = "probe"


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors in the order of the texts, shape (n, d), and the tokens charged for them."""

    vectors: Vectors
    tokens: int


class TextServiceEncoder(ABC):
    """Texts embedded by a service, paid by the token.

    What the service has answered is kept until it is handed over: when a later request of the same
    call fails, calling again with the same texts asks only for the rest. Equal texts of one call
    are asked once. A subclass sends one request, in `request`.

    Args:
        name: Name of the encoder, for messages.
        dimensions: Length of the vectors, if it is known before the first answer.
        query_prefix: Put before every query.
        passage_prefix: Put before every document.
        max_items_per_request: Most texts in one request.
        max_tokens_per_request: Most tokens in one request, as estimated by `count_tokens`.
        price_per_million_tokens: What the service charges; enables `cost`.

    Raises:
        ConfigError: A number is out of range.

    Attributes:
        tokens_used: Tokens the service has charged for so far.
        price_per_million_tokens: The price given, None if unknown.
    """

    def __init__(
        self,
        name: str,
        *,
        dimensions: int | None,
        query_prefix: str,
        passage_prefix: str,
        max_items_per_request: int,
        max_tokens_per_request: int,
        price_per_million_tokens: float | None,
    ) -> None:
        if min(max_items_per_request, max_tokens_per_request, dimensions or 1) < 1:
            raise ConfigError("limits must be positive", "correct the option")
        self.price_per_million_tokens = price_per_million_tokens
        self.tokens_used = 0
        self._name = name
        self._query_prefix, self._passage_prefix = query_prefix, passage_prefix
        self._bytes_used = 0
        self._dimension = dimensions
        self._max_items, self._max_tokens = max_items_per_request, max_tokens_per_request
        # By whether it is a query: some services embed the same text in two ways.
        self._answered: dict[tuple[str, bool], Vectors] = {}

    @abstractmethod
    def request(self, texts: list[str], *, is_query: bool) -> Embeddings:
        """Embed texts in one request.

        Raises:
            RefusedInputError: The service refuses the request for what is in it.
            ConnectionFailedError: It cannot be reached, refuses the key, or has no quota left.
            EncoderError: It does not know the model, or answers with something else.
        """

    @property
    def dimension(self) -> int:
        """Length of the vectors; unless given or seen, it is asked with a text of one token."""
        if self._dimension is None:
            self._ask([_PROBE], is_query=False)
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
        if modality is not Modality.TEXT:
            raise EncoderError(
                f"the encoder {self._name} takes texts alone",
                'use the encoder "open_clip" for images',
            )
        is_query = ids is None
        prefix = self._query_prefix if is_query else self._passage_prefix
        flawed = {row: flaw for row, item in enumerate(items) if (flaw := _flaw(item))}
        texts = [prefix + item for item in items]
        # Each text is paid for once, however often it occurs.
        wanted = list(dict.fromkeys(t for row, t in enumerate(texts) if row not in flawed))
        missing = [text for text in wanted if (text, is_query) not in self._answered]
        refused: dict[str, str] = {}
        # As a list: `count_tokens` changes with every answer and would move the cuts.
        for part in list(self._requests(missing)):
            refused |= self._settle(part, is_query=is_query)
        failures = flawed | {row: refused[t] for row, t in enumerate(texts) if t in refused}
        if failures:
            raise UnreadableSourceError(failures)
        vectors = np.array([self._answered[text, is_query] for text in texts], np.float32)
        # Dropped once returned, or it would grow with the collection.
        for text in wanted:
            del self._answered[text, is_query]
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

    def _settle(self, texts: list[str], *, is_query: bool) -> Mapping[str, str]:
        """Get vectors for all texts that the service takes; returns the others with the reason."""
        try:
            self._ask(texts, is_query=is_query)
        except RefusedInputError as error:
            # Where nothing was ever accepted the options may be at fault, and halving would send
            # every text alone to find that out.
            if not self._bytes_used:
                self._probe(error, is_query=is_query)
            if len(texts) == 1:
                return {texts[0]: str(error)}
            # A refusal names no text; halving finds the one at fault in 2 log2(n) requests.
            middle = len(texts) // 2
            first = self._settle(texts[:middle], is_query=is_query)
            return {**first, **self._settle(texts[middle:], is_query=is_query)}
        return {}

    def _probe(self, refusal: RefusedInputError, *, is_query: bool) -> None:
        """Distinguish refused texts from refused options, by sending one harmless text."""
        try:
            self._ask([_PROBE], is_query=is_query)
        except RefusedInputError as error:
            raise EncoderError(
                f"the service refuses every request: {error}", "check model and dimensions"
            ) from refusal

    def _ask(self, texts: list[str], *, is_query: bool) -> None:
        answer = self.request(texts, is_query=is_query)
        # Counted before the check, because an unusable answer is charged too.
        self.tokens_used += answer.tokens
        self._bytes_used += sum(map(_size, texts))
        self._check(answer, len(texts))
        self._answered.update(
            {(text, is_query): row for text, row in zip(texts, answer.vectors, strict=True)}
        )

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
    return "" if is_unicode(text) else "the text is not valid Unicode"


def _size(text: str) -> int:
    # Tokens may be counted for texts that `_flaw` would refuse.
    return len(text.encode("utf-8", "surrogatepass"))
