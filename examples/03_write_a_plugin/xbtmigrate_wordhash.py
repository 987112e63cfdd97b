"""Encoder plugin: texts as hashed bags of words, in the place where a model would be."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from xbtmigrate.errors import ConfigError, EncoderError, UnreadableSourceError
from xbtmigrate.types import Modality, PointId, Vectors, normalized


class WordHashEncoder:
    """Every word adds 1 or -1 to one place of the vector; places and signs come from a hash.

    Args:
        dimension: Length of the vectors.
        lowercase: Whether "Fox" and "fox" are one word.

    Raises:
        ConfigError: The dimension is below 1.
    """

    def __init__(self, *, dimension: int = 256, lowercase: bool = True) -> None:
        if dimension < 1:
            raise ConfigError("dimension must be at least 1", "correct the option")
        self.dimension = dimension
        self.fingerprint = f"wordhash:1:{dimension}:{lowercase}"
        self._lowercase = lowercase

    def encode(
        self, items: Sequence[str], modality: Modality, *, ids: Sequence[PointId] | None = None
    ) -> Vectors:
        """Embed n texts as float32 of shape (n, dimension), each of unit length.

        Raises:
            EncoderError: The items are images.
            UnreadableSourceError: Some texts have no word in them.
        """
        del ids
        if modality is not Modality.TEXT:
            raise EncoderError("wordhash takes texts alone", 'set old_model.stored = "text"')
        words = [self._words(item) for item in items]
        if failures := {row: "no word in it" for row, found in enumerate(words) if not found}:
            raise UnreadableSourceError(failures)
        vectors = np.zeros((len(items), self.dimension), np.float32)
        for row, found in enumerate(words):
            for word in found:
                number = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest())
                vectors[row, (number >> 1) % self.dimension] += 1 if number & 1 else -1
        return normalized(vectors)

    def _words(self, text: str) -> list[str]:
        return re.findall(r"\w+", text.lower() if self._lowercase else text)


class NewestFirst:
    """Points with the highest number first: where ids count up, the newest are encoded first."""

    def score(self, ids: Sequence[PointId], old: Vectors) -> npt.NDArray[np.float32]:
        """Score points by their id; an id that is no number comes last. Shape (n,)."""
        del old
        return np.array([float(point) if point.isdecimal() else -1 for point in ids], np.float32)
