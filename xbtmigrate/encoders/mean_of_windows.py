"""Embed texts that are longer than a model reads as the mean over windows of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xbtmigrate.errors import ConfigError, UnreadableSourceError
from xbtmigrate.protocols import Encoder
from xbtmigrate.types import Modality, PointId, Vectors, normalized


@dataclass(frozen=True, slots=True)
class MeanOfWindows:
    """Wraps an encoder: a long document gets the mean of its windows, weighted by their tokens.

    This is what LangChain's OpenAI embeddings do. Queries are embedded as they are.

    Attributes:
        encoder: The encoder. Its method `split_windows(text)` returns the windows that it can read
            whole, in order, with the number of tokens of each.

    Raises:
        ConfigError: It has no such method.
    """

    encoder: Encoder

    def __post_init__(self) -> None:
        if not hasattr(self.encoder, "split_windows"):
            raise ConfigError(
                'old_model.chunk = "mean" needs encoders that split texts into windows, and '
                f"{self.encoder.fingerprint} does not",
                "use sentence-transformers or fastembed for both models, or remove the key",
            )

    @property
    def fingerprint(self) -> str:
        """Identity of the model and of the mean."""
        return f"{self.encoder.fingerprint}:mean-of-windows"

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return self.encoder.dimension

    def __getattr__(self, name: str) -> Any:
        """Return optional members of the encoder, such as its price."""
        return getattr(self.encoder, name)

    def find_truncated(self, texts: Sequence[str]) -> list[int]:
        """Return no rows: every text is read to its end."""
        del texts
        return []

    def encode(
        self, items: Sequence[str], modality: Modality, *, ids: Sequence[PointId] | None = None
    ) -> Vectors:
        """Embed items; see `xbtmigrate.protocols.Encoder.encode`.

        Raises:
            UnreadableSourceError: A window of these items cannot be embedded.
        """
        if modality is not Modality.TEXT or ids is None:
            return self.encoder.encode(items, modality, ids=ids)
        windows = [self.encoder.split_windows(text) for text in items]  # type: ignore[attr-defined]
        rows = np.repeat(np.arange(len(items)), [len(each) for each in windows])
        texts = [text for each in windows for text, _ in each]
        try:
            made = self.encoder.encode(texts, modality, ids=[ids[row] for row in rows.tolist()])
        except UnreadableSourceError as error:
            failures = {int(rows[row]): reason for row, reason in error.failures.items()}
            raise UnreadableSourceError(failures) from error
        tokens = np.array([count for each in windows for _, count in each], np.float32)
        vectors = np.zeros((len(items), self.dimension), np.float32)
        np.add.at(vectors, rows, made * tokens[:, None])
        # Means are shorter than what they are the means of: they get the windows' mean length.
        lengths = np.bincount(rows, np.linalg.norm(made, axis=1), len(items))
        counts = np.maximum(np.bincount(rows, minlength=len(items)), 1)
        means = normalized(vectors) * (lengths / counts).astype(np.float32)[:, None]
        # The vector of a single window stays as it is, to the last bit.
        alone = np.flatnonzero(counts[rows] == 1)
        means[rows[alone]] = made[alone]
        return np.asarray(means, np.float32)


def cut_windows(text: str, tokens: Sequence[tuple[int, int]], size: int) -> list[tuple[str, int]]:
    """Cut a text into windows of `size` tokens; each with its number of tokens.

    Args:
        text: The text.
        tokens: Where each of its tokens begins and ends.
        size: Tokens of a window.
    """
    parts = [tokens[start : start + size] for start in range(0, len(tokens), max(1, size))]
    # What is read whole stays as it is, with the white space around it.
    if len(parts) < 2:
        return [(text, max(1, len(tokens)))]
    return [(text[part[0][0] : part[-1][1]], len(part)) for part in parts]
