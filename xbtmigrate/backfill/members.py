"""Domain: which points belong to a set that may be large, at eight bytes a point."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from xbtmigrate.types import PointId


class Members:
    """Remembers 64 bits of each id; holds for this process alone.

    A stranger is taken for a member once in 2^64 / n times.

    Args:
        ids: The n members.
    """

    def __init__(self, ids: Iterable[PointId] = ()) -> None:
        self._hashes = np.sort(np.fromiter(map(hash, ids), np.int64))

    def among(self, ids: Sequence[PointId]) -> npt.NDArray[np.bool_]:
        """Say which of some points are members; shape (len(ids),)."""
        asked = np.fromiter(map(hash, ids), np.int64, len(ids))
        places = np.searchsorted(self._hashes, asked)
        return self._hashes.take(places, mode="clip") == asked if len(self._hashes) else places > 0
