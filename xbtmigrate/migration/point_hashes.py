"""The ledger: a hash of every point at a cutover, to see later which side changed.

Old and new side were equal at that moment, so a point that now differs from its hash on one side
only was changed on that side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from xbtmigrate.types import PointId, find_sorted

# 64 bits: a changed point passes as unchanged with a chance of 2^-64.
LENGTH = 16
"""Hexadecimal digits of a stored hash."""

# A UUID has 36 characters. Fixed width: Python strings would take twice as much, or more.
_IDS = "S36"
_HASHES = f"S{LENGTH}"


class PointHashes:
    """Hashes of points, sorted by id: 52 bytes per point, and a little more per change.

    Args:
        ids: Point ids.
        hashes: The hash of each; only its first digits are kept.
    """

    def __init__(self, ids: Sequence[PointId] = (), hashes: Sequence[str] = ()) -> None:
        members = np.array(ids, _IDS)
        order = np.argsort(members)
        self._ids: npt.NDArray[np.bytes_] = members[order]
        self._hashes: npt.NDArray[np.bytes_] = np.array(hashes, _HASHES)[order]
        # Later changes are few: kept apart, they cost no new sorting. "" marks a deleted point.
        self._changes: dict[PointId, str] = {}

    def find(self, ids: Sequence[PointId]) -> list[str | None]:
        """Look up points; None for those without a hash."""
        rows, found = self._rows(ids)
        return [
            (self._changes[point] or None)
            if point in self._changes
            else (self._hashes[row].decode() if there else None)
            for point, row, there in zip(ids, rows, found, strict=True)
        ]

    def set(self, changes: Mapping[PointId, str | None]) -> None:
        """Set the present hash of points; None for deleted ones."""
        for point, value in changes.items():
            self._changes[point] = (value or "")[:LENGTH]

    def without(self, present: Iterable[Sequence[PointId]]) -> list[PointId]:
        """Return the points that are in none of these lists of present ids."""
        seen = np.zeros(len(self._ids), np.bool_)
        more: set[PointId] = set()
        for ids in present:
            rows, found = self._rows(ids)
            seen[rows[found]] = True
            more.update(point for point in ids if point in self._changes)
        rest = [point.decode() for point in self._ids[~seen]]
        added = [point for point in self._changes if point not in more]
        return [
            point
            for point in dict.fromkeys([*rest, *added])
            if self._changes.get(point, "there") and point not in more
        ]

    def table(self) -> pa.Table:
        """Return it as columns id and hash, for a file."""
        kept = [
            (point.decode(), value.decode())
            for point, value in zip(self._ids, self._hashes, strict=True)
            if point.decode() not in self._changes
        ]
        # Not in order: a reader sorts by id.
        kept += [(point, value) for point, value in self._changes.items() if value]
        ids, hashes = zip(*kept, strict=True) if kept else ((), ())
        return pa.table({"id": pa.array(ids, pa.string()), "hash": pa.array(hashes, pa.string())})

    def _rows(self, ids: Sequence[PointId]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        return find_sorted(self._ids, np.array(ids, _IDS))
