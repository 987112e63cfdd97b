"""Keep a set of millions of point ids in eight bytes an id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from xbtmigrate.types import PointId, find_sorted


class IdSet:
    """A set of ids by their 64-bit hashes, valid only in this process.

    The chance that an id outside the set is taken for a member is n / 2^64.

    Args:
        ids: The n ids in the set.
    """

    def __init__(self, ids: Iterable[PointId] = ()) -> None:
        # Python salts the hash of a str in each process. A set of the ids themselves would take
        # well over 100 bytes for each UUID.
        self._hashes = np.sort(np.fromiter(map(hash, ids), np.int64))

    def contains(self, ids: Sequence[PointId]) -> npt.NDArray[np.bool_]:
        """Look up many ids at once; bool of shape (len(ids),)."""
        return find_sorted(self._hashes, np.fromiter(map(hash, ids), np.int64, len(ids)))[1]
