"""Compare a shadow with its source, point by point, apart from the new vector. Reads only."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xbtmigrate.qdrant.gallery.provenance import whole_hash
from xbtmigrate.qdrant.wire.points import Sparse, Vector
from xbtmigrate.qdrant.wire.reader import Reader
from xbtmigrate.types import PointId, normalized


@dataclass(frozen=True, slots=True)
class ShadowComparison:
    """Find copies that differ from their sources, and copies without a source.

    Attributes:
        source: Reads the source.
        shadow: Reads the shadow.
        copied: Names of the vectors that are copied along.
        scaled: Those of them whose length does not count: cosine spaces scale what they store, but
            the embedded mode not always.
    """

    source: Reader
    shadow: Reader
    copied: Sequence[str]
    scaled: Collection[str] = ()

    def differences(self, ids: Sequence[PointId]) -> dict[PointId, str]:
        """Return the differences of at most one page of copies; equal ones are left out.

        Points that are absent from either side are left out too: reading their vectors shows
        them missing.
        """
        names = list(self.copied) or False
        sources = self.source.retrieve(ids, payload=True, vectors=names)
        copies = self.shadow.retrieve(sources.ids, payload=True, vectors=names)
        row_of = {point_id: row for row, point_id in enumerate(copies.ids)}
        found = {}
        for row, point_id in enumerate(sources.ids):
            if point_id not in row_of:
                continue
            other = row_of[point_id]
            unlike = self._vectors(sources.vectors[row], copies.vectors[other])
            if whole_hash(sources.payloads[row]) != whole_hash(copies.payloads[other]):
                unlike.insert(0, "payload")
            if sources.shard_keys[row] != copies.shard_keys[other]:
                unlike.append("shard key")
            if unlike:
                found[point_id] = ", ".join(unlike)
        return found

    def strays(self) -> Iterator[list[PointId]]:
        """Yield the copies whose sources are gone, one list for each page of copies."""
        for copies in self.shadow.scroll(payload=False, vectors=False):
            yield self._without_source(copies.ids)

    def strays_of(self, ids: Sequence[PointId]) -> Iterator[list[PointId]]:
        """Yield those of some copies that exist and whose sources are gone."""
        for part in self.shadow.pages_of(ids):
            yield self._without_source(self.shadow.retrieve(part).ids)

    def _without_source(self, ids: Sequence[PointId]) -> list[PointId]:
        there = set(self.source.retrieve(ids).ids)
        return [each for each in ids if each not in there]

    def _vectors(self, source: Mapping[str, Vector], copy: Mapping[str, Vector]) -> list[str]:
        return [
            f"vector '{name}'"
            for name in self.copied
            if not _equal(source.get(name), copy.get(name), scaled=name in self.scaled)
        ]


def _equal(one: Vector | None, other: Vector | None, *, scaled: bool) -> bool:
    if isinstance(one, Sparse) and isinstance(other, Sparse):
        return np.array_equal(one.indices, other.indices) and np.array_equal(
            one.values, other.values
        )
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        if scaled:
            one, other = normalized(one.reshape(1, -1)), normalized(other.reshape(1, -1))
        # Vectors that are scaled when stored are scaled again when copied.
        return one.shape == other.shape and np.allclose(one, other, rtol=1e-5, atol=1e-6)
    return one is None and other is None
