"""Adapter: vectors of the new model that were paid for, kept on disk by content hash."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from xbtmigrate.files import read_parquet, write_atomically
from xbtmigrate.types import Vectors, vector_array, vectors_of


class KnownVectors:
    """Vectors of the new model for gallery content, kept by content hash.

    Args:
        folder: Where the Parquet parts lie.
        dimension: Length of the vectors.
    """

    def __init__(self, folder: Path, dimension: int) -> None:
        self._folder = folder
        self._hashes: npt.NDArray[np.bytes_] = np.empty(0, "S32")
        self._vectors: Vectors = np.empty((0, dimension), np.float32)
        for part in sorted(folder.glob("*.parquet")):
            table = read_parquet(part)
            self._merge(table["content_hash"].to_pylist(), vectors_of(table, "vector"))

    def __len__(self) -> int:
        """Number of vectors kept."""
        return len(self._hashes)

    def find(self, hashes: Sequence[str]) -> tuple[Vectors, npt.NDArray[np.bool_]]:
        """Look up by content hash; returns (n, d) vectors, zero where unknown, and the found."""
        wanted = np.array(hashes, "S32")
        vectors = np.zeros((len(wanted), self._vectors.shape[1]), np.float32)
        if not len(self._hashes):
            return vectors, np.zeros(len(wanted), np.bool_)
        places = np.minimum(np.searchsorted(self._hashes, wanted), len(self._hashes) - 1)
        found = (self._hashes[places] == wanted) & (wanted != b"")
        vectors[found] = self._vectors[places[found]]
        return vectors, found

    def add(self, hashes: Sequence[str], vectors: Vectors) -> None:
        """Keep more vectors, on disk first."""
        if not len(hashes):
            return
        table = pa.table({"content_hash": pa.array(hashes), "vector": vector_array(vectors)})
        count = len(list(self._folder.glob("*.parquet")))
        path = self._folder / f"{count:06d}.parquet"
        write_atomically(path, lambda temporary: pq.write_table(table, temporary))
        self._merge(hashes, vectors)

    def _merge(self, hashes: Sequence[str], vectors: Vectors) -> None:
        joined = np.concatenate([self._hashes, np.array(hashes, "S32")])
        self._hashes, rows = np.unique(joined, return_index=True)
        self._vectors = np.concatenate([self._vectors, vectors])[rows]
