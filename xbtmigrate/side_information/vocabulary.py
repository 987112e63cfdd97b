"""The words of a collection, and their weights in a text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from xbtmigrate.side_information.tokens import MAX_TOKENS, split_words

if TYPE_CHECKING:
    from scipy import sparse

MAX_WORDS = 15_000
"""Largest vocabulary; embedding it takes a fiftieth of the tokens of 20,000 texts."""
MIN_TEXTS = 2
"""A word that occurs in a single text relates it to no other."""
MAX_COUNTED = 1_000_000
"""Most distinct words counted at a time; beyond that, words seen once are dropped."""
HALF_LIFE = 20
"""Words after which a word's weight halves: a text's subject tends to come first."""

_DECAY = [0.5 ** (place / HALF_LIFE) for place in range(MAX_TOKENS)]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Words with their weights.

    Attributes:
        words: The words, v.
        rarity: Inverse document frequency of each, float32 (v,).
    """

    words: Sequence[str]
    rarity: npt.NDArray[np.float32]

    def __len__(self) -> int:
        """Return the number of words."""
        return len(self.words)

    @cached_property
    def _place(self) -> dict[str, int]:
        return {word: place for place, word in enumerate(self.words)}

    def weigh(self, texts: Sequence[str | None]) -> sparse.csr_array:
        """Weigh the words of texts: TF-IDF that decays with the place in the text.

        Args:
            texts: n texts; None for a missing one.

        Returns:
            Float32 (n, v), each row of unit length, or empty where no word is known.
        """
        # Every command loads this module, and few of them weigh words.
        from scipy import sparse

        places: list[int] = []
        weights: list[float] = []
        ends = [0]
        find = self._place.get
        for text in texts:
            counts: dict[int, float] = {}
            for weight, word in zip(_DECAY, split_words(text or ""), strict=False):
                place = find(word)
                if place is not None:
                    counts[place] = counts.get(place, 0.0) + weight
            places += counts
            weights += counts.values()
            ends.append(len(places))
        # A word that recurs counts more, but less than in proportion.
        values = np.log1p(np.array(weights, np.float32)) * self.rarity[places]
        rows = np.repeat(np.arange(len(texts)), np.diff(ends))
        values /= np.sqrt(np.bincount(rows, values**2, len(texts)))[rows]
        shape = len(texts), len(self)
        return sparse.csr_array((values, np.array(places, np.int32), ends), shape=shape)


def collect_vocabulary(texts: Iterable[str | None], *, most: int = MAX_WORDS) -> Vocabulary:
    """Count in how many texts each word occurs, and keep the commonest ones.

    Args:
        texts: The texts of one pass, or of the part of one that is counted.
        most: Words to keep.

    Returns:
        Words in order of their frequency; none where no word occurs in two texts.
    """
    counts: Counter[str] = Counter()
    seen = 0
    for text in texts:
        if text:
            seen += 1
            # Once per text: the count is the document frequency.
            counts.update(set(split_words(text)))
            if len(counts) > MAX_COUNTED:
                # Limits memory; a dropped word that recurs is counted from then on.
                counts = Counter({word: count for word, count in counts.items() if count > 1})
    kept = [(word, count) for word, count in counts.items() if count >= MIN_TEXTS]
    # Equal counts by the alphabet, so that the same texts give the same vocabulary.
    kept = sorted(kept, key=lambda each: (-each[1], each[0]))[:most]
    # Smoothed as if one more text held every word: log((1 + n) / (1 + df)) + 1.
    rarity = [math.log((1 + seen) / (1 + count)) + 1 for _, count in kept]
    return Vocabulary([word for word, _ in kept], np.array(rarity, np.float32))
