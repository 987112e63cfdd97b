"""Embed equal contents once: group the points of a batch, and remember the latest vectors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from xbtmigrate.types import Vectors

MAX_BYTES = 64 * 2**20
"""Memory for the vectors that are remembered."""


def find_distinct(hashes: Sequence[str]) -> tuple[list[int], npt.NDArray[np.intp]]:
    """Group n contents by their hashes.

    Returns:
        The rows of the u distinct ones, each where it is first met, and for each of the n rows its
        place among these, (n,).
    """
    place: dict[str, int] = {}
    places = np.fromiter((place.setdefault(each, len(place)) for each in hashes), np.intp)
    firsts: list[int] = np.unique(places, return_index=True)[1].tolist()
    return firsts, places


class RecentVectors:
    """The vectors of the contents that were encoded last, in bounded memory.

    Points of equal content have equal old vectors, so most orders put them close together.

    Args:
        dimension: Length of the vectors.
        max_bytes: Memory for them; those that were used longest ago are forgotten.
    """

    def __init__(self, dimension: int, max_bytes: int = MAX_BYTES) -> None:
        self._dimension = dimension
        self._most = max(1, max_bytes // (4 * dimension))
        self._vectors: OrderedDict[str, Vectors] = OrderedDict()

    def find(self, hashes: Sequence[str]) -> tuple[Vectors, npt.NDArray[np.bool_]]:
        """Look up by content hash; returns (n, d) vectors, zero where unknown, and the found."""
        vectors = np.zeros((len(hashes), self._dimension), np.float32)
        found = np.zeros(len(hashes), np.bool_)
        for row, each in enumerate(hashes):
            if each in self._vectors:
                self._vectors.move_to_end(each)
                vectors[row], found[row] = self._vectors[each], True
        return vectors, found

    def add(self, hashes: Sequence[str], vectors: Vectors) -> None:
        """Remember the vectors of some contents."""
        # A copy of each: a view would keep the whole batch in memory.
        self._vectors.update(zip(hashes, map(np.copy, vectors), strict=True))
        while len(self._vectors) > self._most:
            self._vectors.popitem(last=False)
