"""Look up vectors computed elsewhere in a Parquet file, by id, text or image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xbtmigrate.errors import EncoderError, UnreadableSourceError
from xbtmigrate.types import Modality, PointId, Vectors, find_sorted, normalized

# Bytes. Hashing a file of 100 GB would take minutes at every start, so larger ones are sampled.
_HASHED_WHOLE = 256 * 2**20
_SAMPLED = 2**20
_SHAPE_HINT = (
    "write a Parquet file with the columns `key` (string or integer) and `vector`"
    " (fixed_size_list or list of float16, float32 or float64, all of one length)"
)

_SPELLINGS: tuple[Callable[[str], str], ...] = (
    str,
    str.upper,
    lambda each: each.replace("-", ""),
    lambda each: each.replace("-", "").upper(),
    "urn:uuid:{}".format,
    "{{{}}}".format,
)
"""Ways in which the keys of a file may spell a point's UUID."""

_Hashes = npt.NDArray[np.bytes_]


class PrecomputedEncoder:
    """Vectors from a Parquet file with the columns `key` and `vector`.

    An item is looked up by itself first (the text or the image reference), then by its point id.
    Memory holds 24 bytes per key and the vectors in the precision of the file (float64 becomes
    float32); the keys themselves are not kept.

    Args:
        path: The Parquet file.
        normalize: Scale every vector to unit length.

    Raises:
        EncoderError: The file is missing, is not Parquet or has other columns or types.
    """

    def __init__(self, *, path: Path, normalize: bool = False) -> None:
        self._path = path
        self._normalize = normalize
        self._vector_type = self._check(self._file().schema_arrow)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the file's content; above 256 MiB of its size, footer, head and tail."""
        suffix = ":normalized" if self._normalize else ""
        return f"precomputed:{_digest(self._path)}{suffix}"

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        # The schema names the length of such lists, so the file need not be read.
        if isinstance(self._vector_type, pa.FixedSizeListType):
            return int(self._vector_type.list_size)
        return int(self._index[1].shape[1])

    def encode(
        self, items: Sequence[str], modality: Modality, *, ids: Sequence[PointId] | None = None
    ) -> Vectors:
        """Look up items; see `xbtmigrate.protocols.Encoder.encode`. The modality does not matter.

        Raises:
            UnreadableSourceError: Some items are not in the file, neither by id.
        """
        del modality
        rows = self._rows(items)
        if ids is not None:
            # The tool spells UUIDs in one way; the file was written by another program.
            for spelling in _SPELLINGS:
                if (rows >= 0).all():
                    break
                rows = np.where(rows < 0, self._rows([spelling(each) for each in ids]), rows)
        if missing := np.flatnonzero(rows < 0).tolist():
            raise UnreadableSourceError(
                {row: f"{items[row][:60]!r} is not in {self._path.name}" for row in missing}
            )
        # Converted only here: a file of float16 takes half the memory.
        vectors = self._index[1][rows].astype(np.float32)
        return normalized(vectors) if self._normalize else vectors

    def _rows(self, keys: Sequence[str]) -> npt.NDArray[np.int64]:
        """Row of each key in the vectors, -1 where it has none."""
        known, _, order = self._index
        places, found = find_sorted(known, _hashes(keys))
        return np.where(found, order[places], -1)

    @cached_property
    def _index(self) -> tuple[_Hashes, npt.NDArray[np.floating[Any]], npt.NDArray[np.int64]]:
        """Sorted hashes of the keys, the vectors in file order, and the row of each hash."""
        hashes, vectors = self._read()
        order = np.argsort(hashes, kind="stable")
        known = hashes[order]
        # The same text at several points is no error, as long as its vectors are equal.
        for place in np.flatnonzero(known[1:] == known[:-1]):
            first, second = order[place], order[place + 1]
            if not np.array_equal(vectors[first], vectors[second]):
                raise self._error(
                    f"has different vectors for one key, {self._key(int(second))!r}",
                    "keep one vector per key",
                )
        return known, vectors, order

    def _read(self) -> tuple[_Hashes, npt.NDArray[np.floating[Any]]]:
        file = self._file()
        hashes = np.empty(file.metadata.num_rows, "S16")
        vectors: npt.NDArray[np.floating[Any]] | None = None
        start = 0
        try:
            # In batches: keys may be whole texts, and only their hashes are kept.
            for batch in file.iter_batches(columns=["key", "vector"], batch_size=65_536):
                part = self._matrix(batch.column("vector"), start)
                if vectors is None:
                    vectors = np.empty((len(hashes), part.shape[1]), part.dtype)
                if part.shape[1] != vectors.shape[1]:
                    raise self._error("has vectors of different lengths", _SHAPE_HINT)
                vectors[start : start + len(part)] = part
                # Integer keys as decimal digits, which is how batches spell integer ids.
                keys = batch.column("key").cast(pa.string())
                hashes[start : start + len(part)] = _hashes(self._without_nulls(keys, start))
                start += len(part)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise self._error(f"cannot be read: {error}", "write the file again") from error
        if vectors is None:
            raise self._error("has no rows", "write the vectors into it")
        return hashes, vectors

    def _matrix(self, column: pa.Array, start: int) -> npt.NDArray[np.floating[Any]]:
        """View a column of vectors as a matrix; `start` is its first row in the file."""
        lengths = pc.unique(pc.list_value_length(column))
        if column.null_count or len(lengths) != 1 or lengths[0].as_py() == 0:
            raise self._error("has missing vectors or vectors of different lengths", _SHAPE_HINT)
        values = column.flatten().to_numpy(zero_copy_only=False)
        matrix: npt.NDArray[np.floating[Any]] = values.reshape(len(column), -1)
        if matrix.dtype == np.float64:
            matrix = matrix.astype(np.float32)
        if not (finite := np.isfinite(matrix).all(axis=1)).all():
            row = start + int(np.argmin(finite))
            raise self._error(
                f"has NaN or infinity in the vector of key {self._key(row)!r}",
                "embed that item again, or leave it out",
            )
        return matrix

    def _without_nulls(self, keys: pa.Array, start: int) -> Sequence[str]:
        if keys.null_count:
            row = start + keys.is_null().index(True).as_py()
            raise self._error(f"has no key in row {row}", "give every vector its key")
        names: list[str] = keys.to_pylist()
        return names

    def _check(self, schema: pa.Schema) -> pa.DataType:
        """Type of the vectors, if the columns are what they must be."""
        if missing := {"key", "vector"} - set(schema.names):
            raise self._error(
                f"has no column {' and no column '.join(sorted(missing))}", _SHAPE_HINT
            )
        key, vector = schema.field("key").type, schema.field("vector").type
        if not (pa.types.is_integer(key) or key in {pa.string(), pa.large_string()}):
            raise self._error(f"has keys of type {key}", _SHAPE_HINT)
        is_list = isinstance(vector, pa.FixedSizeListType | pa.ListType | pa.LargeListType)
        if not (is_list and pa.types.is_floating(vector.value_type)):
            raise self._error(f"has vectors of type {vector}", _SHAPE_HINT)
        return vector

    def _file(self) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self._path, memory_map=True)
        except FileNotFoundError as error:
            raise EncoderError(
                f"{self._path} does not exist", "give the path of the Parquet file of vectors"
            ) from error
        except (pa.ArrowException, OSError) as error:
            raise self._error(f"is not a Parquet file: {error}", _SHAPE_HINT) from error

    def _key(self, row: int) -> object:
        # For a message only: the keys are not kept, so they are read again.
        return pq.read_table(self._path, columns=["key"])["key"][row].as_py()

    def _error(self, problem: str, hint: str) -> EncoderError:
        return EncoderError(f"{self._path} {problem}", hint)


def _hashes(keys: Iterable[str]) -> _Hashes:
    """128-bit hash of each key: two of 10^10 keys collide with a probability below 10^-18."""
    digests = (
        hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        for key in keys
    )
    return np.frombuffer(b"".join(digests), "S16")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        if size <= _HASHED_WHOLE:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(size.to_bytes(8, "little") + file.read(_SAMPLED))
        file.seek(-8, 2)
        # Parquet ends with its footer, the footer's length in 4 bytes, and "PAR1". The footer has
        # offsets and statistics of every column, so most changes show there.
        footer = int.from_bytes(file.read(4), "little") + 8
        file.seek(-max(footer, _SAMPLED), 2)
        digest.update(file.read())
        return digest.hexdigest()
