"""Side vectors of texts, made from their words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbtmigrate.side_information.vocabulary import Vocabulary
from xbtmigrate.types import Vectors, normalized

WORDS = "words"
"""Block: a static student of the new model, the mean of its vectors of a text's words."""
LEXICAL = "lexical"
"""Block: the text's words, reduced to their leading directions (TF-IDF and SVD)."""
LEXICAL_SIZE = 256
_BLOCKS = (WORDS, LEXICAL)


@dataclass(frozen=True, eq=False)
class TextSide:
    """Maps texts to side vectors: one block for each kind, all from the same weights of words.

    Attributes:
        vocabulary: The words, v of them.
        blocks: Vectors of the words by kind, each float32 (v, size of the block), of half
            precision, so that they are on disk what they are here.
    """

    vocabulary: Vocabulary
    blocks: Mapping[str, Vectors]

    def __post_init__(self) -> None:
        """Check that the parts belong together."""
        for name, table in self.blocks.items():
            if name not in _BLOCKS or table.ndim != 2 or len(table) != len(self.vocabulary):
                raise ValueError(f"'{name}' {table.shape} is no block of the vocabulary")

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each block, in order."""
        return {name: int(table.shape[1]) for name, table in self.blocks.items()}

    @property
    def size(self) -> int:
        """Length of a side vector."""
        return sum(self.sizes.values())

    def embed(self, texts: Sequence[str | None]) -> Vectors:
        """Make the side vectors of texts; zero where no word is known.

        Args:
            texts: n texts; None for a missing one.

        Returns:
            Float32 (n, size).
        """
        weights = self.vocabulary.weigh(texts)
        out = np.empty((len(texts), self.size), np.float32)
        start = 0
        for name, table in self.blocks.items():
            stop = start + table.shape[1]
            found = weights @ table
            # The student imitates unit vectors; the lexical block keeps the lengths of TF-IDF rows.
            out[:, start:stop] = normalized(found) if name == WORDS else found
            start = stop
        return out

    def kept(self, names: Sequence[str]) -> TextSide:
        """Keep the blocks of these kinds only."""
        return TextSide(self.vocabulary, {name: self.blocks[name] for name in names})

    def tensors(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return what `from_tensors` rebuilds it from; words are UTF-8, one a line."""
        # No word holds a line break, see `split_words`.
        text = "\n".join(self.vocabulary.words).encode()
        return {
            "vocabulary": np.frombuffer(text, np.uint8),
            "rarity": self.vocabulary.rarity,
            **{name: table.astype(np.float16) for name, table in self.blocks.items()},
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, npt.NDArray[np.generic]]) -> TextSide:
        """Rebuild from `tensors()`; raises KeyError or ValueError if they do not fit together."""
        words = tensors["vocabulary"].astype(np.uint8).tobytes().decode().split("\n")
        rarity = tensors["rarity"].astype(np.float32)
        if rarity.shape != (len(words),):
            raise ValueError(f"{len(words)} words and rarity {rarity.shape} do not fit together")
        blocks = {name: tensors[name].astype(np.float32) for name in _BLOCKS if name in tensors}
        return cls(Vocabulary(words, rarity), blocks)


def fit_words(vectors: Vectors) -> Vectors:
    """Make the block `words` of the new model's vectors of the words, float32 (v, d)."""
    # What all words share distinguishes no text, yet is most of the vector in an anisotropic
    # space.
    return _halved(vectors - vectors.mean(axis=0))


def fit_lexical(
    vocabulary: Vocabulary, texts: Sequence[str | None], size: int = LEXICAL_SIZE
) -> Vectors:
    """Make the block `lexical`: the leading directions of the texts' weights.

    Args:
        vocabulary: The words, v of them.
        texts: A sample of the texts.
        size: Length of the block, at most.

    Returns:
        Float32 (v, size).
    """
    from scipy.sparse.linalg import svds

    weights = vocabulary.weigh(texts)
    narrow = min(weights.shape)
    # svds starts from a random vector unless it is given one.
    start = np.random.default_rng(0).standard_normal(narrow)
    # svds finds fewer directions than the matrix has sides, and lists the smallest first.
    _, _, directions = svds(weights, k=min(size, narrow - 1), v0=start)
    return _halved(directions[::-1].T)


def _halved(table: npt.NDArray[np.floating]) -> Vectors:
    """Round to the precision in which a projector is stored."""
    return np.ascontiguousarray(table.astype(np.float16), np.float32)
