"""Keep a set of millions of point ids in eight bytes an id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from xbtmigrate.types import PointId, find_sorted


class IdSet:
    """A set of ids by 61-bit hashes of their numbers; it can be sent to another process.

    The chance that an id outside the set is taken for a member is n / 2^61.

    Args:
        ids: The n ids in the set.
    """

    def __init__(self, ids: Iterable[PointId] = ()) -> None:
        # A set of the ids themselves would take well over 100 bytes for each UUID.
        self._hashes = np.sort(np.fromiter(map(_hash, ids), np.int64))

    def contains(self, ids: Sequence[PointId]) -> npt.NDArray[np.bool_]:
        """Look up many ids at once; bool of shape (len(ids),)."""
        return find_sorted(self._hashes, np.fromiter(map(_hash, ids), np.int64, len(ids)))[1]


def _hash(point: PointId) -> int:
    # Of a number, unlike of a str, Python's hash is the same in every process. It is the remainder
    # by the prime 2^61 - 1.
    return hash(int(point) if point.isdecimal() else int(point.replace("-", ""), 16))
