"""Cache new-model vectors on disk by content hash, so that no content is encoded twice.

A cached vector is written to points as it is, so each file proves itself: its metadata name the
model and hold a digest of hashes and vectors. A file that fails is set aside, never deleted, and
its vectors are encoded again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain, count
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from xbtmigrate.errors import ArtefactError
from xbtmigrate.tables import VECTORS, read_parquet, write_parquet
from xbtmigrate.types import Vectors, digest_of, find_sorted, usable, vector_array, vectors_of

_log = logging.getLogger(__name__)
_HASH, _VECTOR = "content_hash", "vector"


class VectorCache:
    """Vectors of the new model for gallery content, kept by content hash.

    Args:
        folder: Where the Parquet parts lie; of two with the same content the later one counts.
        model: Fingerprint of the model.
        dimension: Length of the vectors.
    """

    def __init__(self, folder: Path, model: str, dimension: int) -> None:
        self.folder, self._model = folder, model
        # A content hash has 32 hex digits: BLAKE2b cut to 128 bits (`types.content_hash`).
        self._hashes: npt.NDArray[np.bytes_] = np.empty(0, "S32")
        self._vectors: Vectors = np.empty((0, dimension), np.float32)
        # In the order of their numbers, so that a later part wins.
        for part in sorted(folder.glob("*.parquet")):
            try:
                self._merge(*self._checked(part))
            except ArtefactError as error:
                _set_aside(part, error.message)

    def __len__(self) -> int:
        """Number of vectors kept."""
        return len(self._hashes)

    def find(self, hashes: Sequence[str]) -> tuple[Vectors, npt.NDArray[np.bool_]]:
        """Look up by content hash; returns (n, d) vectors, zero where unknown, and the found."""
        wanted = np.array(hashes, "S32")
        vectors = np.zeros((len(wanted), self._vectors.shape[1]), np.float32)
        rows, found = find_sorted(self._hashes, wanted)
        # The empty hash means that a point has no content, not that two points share theirs.
        found &= wanted != b""
        vectors[found] = self._vectors[rows[found]]
        return vectors, found

    def add(self, hashes: Sequence[str], vectors: Vectors) -> None:
        """Add vectors, on disk first; they replace earlier ones of the same content."""
        # One unusable vector would make the next read set aside the whole part.
        rows = np.flatnonzero(usable(vectors))
        hashes, vectors = [hashes[int(row)] for row in rows], vectors[rows]
        if not hashes:
            return
        digest = self._digest(hashes, vectors)
        table = pa.table({_HASH: pa.array(hashes), _VECTOR: vector_array(vectors)})
        table = table.replace_schema_metadata({"model": self._model, "digest": digest})
        # The digest in the name separates two commands that add at the same time.
        path = self.folder / f"{self._next_number():06d}-{digest[:8]}.parquet"
        write_parquet(path, table)
        self._merge(hashes, vectors)

    def _checked(self, path: Path) -> tuple[Sequence[str], Vectors]:
        """Read one part.

        Raises:
            ArtefactError: It is not what `add` has written for this model.
        """
        table = read_parquet(path, {_HASH: pa.string(), _VECTOR: VECTORS}, "")
        said = table.schema.metadata or {}
        if b"digest" not in said:
            raise ArtefactError(f"{path} has no digest, so it cannot be checked", "")
        if said.get(b"model") != self._model.encode():
            raise ArtefactError(f"{path} is of another model", "")
        hashes, vectors = table[_HASH].to_pylist(), vectors_of(table, _VECTOR)
        whole = said[b"digest"] == self._digest(hashes, vectors).encode()
        fits = vectors.shape[1] == self._vectors.shape[1] and bool(usable(vectors).all())
        if not (whole and fits):
            raise ArtefactError(f"{path} was changed since it was written", "")
        return hashes, vectors

    def _digest(self, hashes: Sequence[str], vectors: Vectors) -> str:
        values = np.ascontiguousarray(vectors, np.float32).tobytes()
        return digest_of(chain([self._model], hashes, [values]))

    def _next_number(self) -> int:
        """One more than the highest number of any part, those set aside included."""
        numbers = (path.name[:6] for path in self.folder.glob("*.parquet*"))
        return max((int(each) for each in numbers if each.isdecimal()), default=-1) + 1

    def _merge(self, hashes: Sequence[str], vectors: Vectors) -> None:
        # np.unique returns the first of equal hashes: the newcomers come first, so they win.
        joined = np.concatenate([np.array(hashes, "S32"), self._hashes])
        self._hashes, rows = np.unique(joined, return_index=True)
        self._vectors = np.concatenate([vectors, self._vectors])[rows]


def _set_aside(path: Path, why: str) -> None:
    """Rename a part, so that it is not read again but can be inspected."""
    names = (f"{path.name}.wrong{number or ''}" for number in count())
    place = next(each for each in map(path.with_name, names) if not each.exists())
    with suppress(OSError):
        # If it cannot be renamed, it is not used either.
        path.rename(place)
    _log.warning("%s; it is set aside as %s, and its vectors are made again", why, place.name)
