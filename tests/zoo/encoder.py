"""Two small models whose vectors are linear in the words of a text, offered as a plugin.

Both map one latent vector of the words, so a projector of closed form can be learned between them,
and part of a text finds the whole. No torch, no file.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np

from xbtmigrate.errors import EncoderError, UnreadableSourceError
from xbtmigrate.types import Modality, PointId, Vectors

LATENT = 12
MAX_CHARACTERS = 30_000
OUTAGE = "outage"
"""A file of this name in the working folder makes the next call fail and is then removed."""


class ZooEncoder:
    """Sums of word vectors under a linear map.

    Args:
        dimension: Length of the vectors.
        seed: Chooses the map.
        whole: Whether its vectors are bytes, 0 to 255.
    """

    def __init__(self, *, dimension: int, seed: int, whole: bool = False) -> None:
        rng = np.random.default_rng(seed)
        self._map = rng.standard_normal((LATENT, dimension)) / LATENT
        self._whole = whole
        self.dimension = dimension
        self.fingerprint = f"zoo:{dimension}:{seed}:{whole}"

    def encode(
        self, items: Sequence[str], modality: Modality, *, ids: Sequence[PointId] | None = None
    ) -> Vectors:
        """Embed items; see `xbtmigrate.protocols.Encoder.encode`."""
        del modality, ids
        if (broken := Path(OUTAGE)).exists():
            broken.unlink()
            raise EncoderError("the model's service is away", "run the same command again")
        failures = {row: reason for row, item in enumerate(items) if (reason := refusal(item))}
        if failures:
            raise UnreadableSourceError(failures)
        return self.vectors(items)

    def vectors(self, items: Sequence[str]) -> Vectors:
        """Make the vectors of items that can be embedded."""
        latent = np.array([_latent(item) for item in items]).reshape(-1, LATENT)
        vectors = latent @ self._map
        if self._whole:
            vectors = np.clip(np.round(vectors * 90 + 128), 0, 255)
        return vectors.astype(np.float32)


def refusal(item: str) -> str:
    """Return why an item cannot be embedded, "" if it can."""
    if len(item) > MAX_CHARACTERS:
        return f"{len(item)} characters, at most {MAX_CHARACTERS} can be embedded"
    if any("\ud800" <= character <= "\udfff" for character in item):
        return "it is no valid Unicode"
    return ""


@lru_cache(10_000)
def _word(word: str) -> np.ndarray:
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "little")).standard_normal(LATENT)


@lru_cache(10_000)
def _latent(item: str) -> np.ndarray:
    words = item.split() or [item]
    return np.sum([_word(word) for word in words], axis=0) / len(words) ** 0.5


@contextmanager
def installed(folder: Path) -> Iterator[None]:
    """Offer the encoder under the name `zoo`, as an installed distribution does."""
    metadata = folder / "xbtmigrate_zoo-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: xbtmigrate-zoo\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        f"[xbtmigrate.encoders]\nzoo = {__name__}:{ZooEncoder.__name__}\n"
    )
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
