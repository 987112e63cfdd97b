"""Look up vectors computed elsewhere in Parquet files, by id, text or image."""

from __future__ import annotations

import hashlib
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from xbtmigrate.encoders.vector_files import Location, VectorFiles, holds_keys, spell_keys
from xbtmigrate.errors import EncoderError, UnreadableSourceError
from xbtmigrate.types import Modality, PointId, Vectors, canonical_id, find_sorted, normalized

BATCH = 4_096
"""Rows read at a time."""
ROUNDING = 0.01
"""Relative distance below which two vectors of one key count as equal: the same model gives
slightly different ones in another batch, and half precision rounds them."""

_SHAPE_HINT = (
    "write Parquet with the columns `key` (texts, or ids as integers, texts or UUIDs) and `vector`"
    " (fixed_size_list or list of float16, float32 or float64, all of one length)"
)

_Hashes = npt.NDArray[np.bytes_]


class PrecomputedEncoder:
    """Vectors from Parquet files with the columns `key` and `vector`.

    An item is looked up by itself first (the text or the image reference), then by its point id.
    Memory holds 24 bytes per key. The keys themselves are not kept, and the vectors are copied to
    a temporary file, in their precision (float64 becomes float32).

    Args:
        path: A Parquet file, a folder of them, or a pattern; a path or a URL.
        normalize: Scale every vector to unit length.
        model: Name of the model that made the vectors. With it, files can be added while a
            migration is under way; without it, other content counts as another model.

    Raises:
        EncoderError: There are no such files, or they have other columns or types.
    """

    def __init__(
        self, *, path: Location, normalize: bool = False, model: str | None = None
    ) -> None:
        self._files = VectorFiles.find(path)
        self._normalize = normalize
        self._model = model
        # The other files are checked when they are read, before the first vector is given.
        self._vector_type = self._check(self._files.paths[0])

    @cached_property
    def fingerprint(self) -> str:
        """The given name of the model, or else a digest of the files' content."""
        suffix = ":normalized" if self._normalize else ""
        identity = f"model:{self._model}" if self._model else self._files.digest()
        return f"precomputed:{identity}{suffix}"

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        # The schema names the length of such lists, so the file need not be read.
        if isinstance(self._vector_type, pa.FixedSizeListType):
            return int(self._vector_type.list_size)
        return int(self._index.vectors.shape[1])

    def encode(
        self, items: Sequence[str], modality: Modality, *, ids: Sequence[PointId] | None = None
    ) -> Vectors:
        """Look up items; see `xbtmigrate.protocols.Encoder.encode`. The modality does not matter.

        Raises:
            UnreadableSourceError: Some items are not in the files, neither by id.
        """
        del modality
        rows = self._rows(items, ids)
        if missing := np.flatnonzero(rows < 0).tolist():
            where = self._files.location
            name = getattr(where, "name", where)
            raise UnreadableSourceError(
                {row: f"{items[row][:60]!r} is not in {name}" for row in missing}
            )
        # Converted only here: a file of float16 takes half the space.
        vectors = self._index.vectors[rows].astype(np.float32)
        return normalized(vectors) if self._normalize else vectors

    def find_missing(
        self, items: Sequence[str], *, ids: Sequence[PointId] | None = None
    ) -> npt.NDArray[np.bool_]:
        """Return which of n items have no vector here, neither by id; shape (n,)."""
        return self._rows(items, ids) < 0

    def _rows(self, items: Sequence[str], ids: Sequence[PointId] | None) -> npt.NDArray[np.int64]:
        """Row of each item in the vectors, -1 where it has none."""
        rows = self._index.keys.find(items)
        if ids is not None and (rows < 0).any():
            for keys in (self._index.keys, self._index.other_spellings):
                rows = np.where(rows < 0, keys.find(ids), rows)
        return rows

    @cached_property
    def _index(self) -> _Index:
        """Read all files once, in batches."""
        types = [self._check(path).value_type for path in self._files.paths]
        # One precision for all: half only where no file has more.
        precision = np.dtype(np.float16 if set(types) == {pa.float16()} else np.float32)
        hashes: list[_Hashes] = []
        starts, others, width, count = [], _Spellings(), 0, 0
        spill = tempfile.TemporaryFile(prefix="xbtmigrate-vectors-")  # noqa: SIM115
        for path in self._files.paths:
            starts.append(count)
            for keys, part in self._read(path):
                width = width or part.shape[1]
                if part.shape[1] != width:
                    raise self._error("has vectors of different lengths", _SHAPE_HINT, path)
                # Not through a memory map: a full disk would kill the process without a message.
                spill.write(np.ascontiguousarray(part, precision).data)
                hashes.append(_hashes(keys))
                others.add(keys, count)
                count += len(part)
        if not count:
            raise self._error("has no rows", "write the vectors into it")
        spill.flush()
        vectors = np.memmap(spill, precision, "r", shape=(count, width))
        known = _Keys.sort(np.concatenate(hashes), np.arange(count))
        index = _Index(known, others.sort(), vectors, starts)
        self._refuse_conflicts(index)
        return index

    def _refuse_conflicts(self, index: _Index) -> None:
        """Raise if one key has different vectors; the same text at several points is no error."""
        known, rows = index.keys
        twice = np.flatnonzero(known[1:] == known[:-1])
        for start in range(0, len(twice), BATCH):
            some = twice[start : start + BATCH]
            first, second = (index.vectors[rows[at]].astype(np.float32) for at in (some, some + 1))
            apart = np.linalg.norm(first - second, axis=1)
            differ = apart > ROUNDING * np.linalg.norm(first, axis=1)
            if differ.any():
                row = int(rows[some[differ][0] + 1])
                place = bisect_right(index.starts, row) - 1
                path = self._files.paths[place]
                key = self._key(path, row - index.starts[place])
                raise self._error(
                    f"has different vectors for one key, {key!r}", "keep one vector per key", path
                )

    def _read(self, path: str) -> Iterator[tuple[list[str], npt.NDArray[np.floating[Any]]]]:
        """Yield the keys and vectors of a file, in batches."""
        start = 0
        try:
            # In batches: keys may be whole texts, and only their hashes are kept.
            with self._files.open(path) as file:
                for batch in file.iter_batches(columns=["key", "vector"], batch_size=BATCH):
                    keys, vectors = batch.column("key"), batch.column("vector")
                    if keys.null_count:
                        row = start + keys.is_null().index(True).as_py()
                        raise self._error(
                            f"has no key in row {row}", "give every vector its key", path
                        )
                    yield spell_keys(keys), self._matrix(vectors, start, path)
                    start += len(batch)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise self._error(f"cannot be read: {error}", "write the file again", path) from error

    def _matrix(self, column: pa.Array, start: int, path: str) -> npt.NDArray[np.floating[Any]]:
        """View a column of vectors as a matrix; `start` is its first row in the file."""
        lengths = pc.unique(pc.list_value_length(column))
        if column.null_count or len(lengths) != 1 or lengths[0].as_py() == 0:
            raise self._error(
                "has missing vectors or vectors of different lengths", _SHAPE_HINT, path
            )
        values = column.flatten().to_numpy(zero_copy_only=False)
        matrix: npt.NDArray[np.floating[Any]] = values.reshape(len(column), -1)
        if matrix.dtype == np.float64:
            matrix = matrix.astype(np.float32)
        if not (finite := np.isfinite(matrix).all(axis=1)).all():
            key = self._key(path, start + int(np.argmin(finite)))
            raise self._error(
                f"has NaN or infinity in the vector of key {key!r}",
                "embed that item again, or leave it out",
                path,
            )
        return matrix

    def _check(self, path: str) -> Any:
        """Return the type of a file's vectors, if its columns are what they must be."""
        try:
            with self._files.open(path) as file:
                schema = file.schema_arrow
        except (pa.ArrowException, OSError) as error:
            raise self._error(f"is not a Parquet file: {error}", _SHAPE_HINT, path) from error
        if missing := {"key", "vector"} - set(schema.names):
            raise self._error(
                f"has no column {' and no column '.join(sorted(missing))}", _SHAPE_HINT, path
            )
        key, vector = schema.field("key").type, schema.field("vector").type
        if not holds_keys(key):
            raise self._error(f"has keys of type {key}", _SHAPE_HINT, path)
        is_list = isinstance(vector, pa.FixedSizeListType | pa.ListType | pa.LargeListType)
        if not (is_list and pa.types.is_floating(vector.value_type)):
            raise self._error(f"has vectors of type {vector}", _SHAPE_HINT, path)
        return vector

    def _key(self, path: str, row: int) -> object:
        # For a message only: the keys are not kept, so they are read again.
        with self._files.open(path) as file:
            return spell_keys(file.read(columns=["key"])["key"].slice(row, 1).combine_chunks())[0]

    def _error(self, problem: str, hint: str, path: str | None = None) -> EncoderError:
        return EncoderError(f"{path or self._files.location} {problem}", hint)


class _Keys(NamedTuple):
    """Hashes of keys, sorted, and the row of each in the vectors."""

    hashes: _Hashes
    rows: npt.NDArray[np.int64]

    @classmethod
    def sort(cls, hashes: _Hashes, rows: npt.NDArray[np.int64]) -> _Keys:
        order = np.argsort(hashes, kind="stable")
        return cls(hashes[order], rows[order])

    def find(self, keys: Sequence[str]) -> npt.NDArray[np.int64]:
        """Row of each key, -1 where it has none."""
        if not len(self.rows):
            return np.full(len(keys), -1)
        places, found = find_sorted(self.hashes, _hashes(keys))
        return np.where(found, self.rows[places], -1)


@dataclass(frozen=True, slots=True)
class _Index:
    """Everything known of the files.

    Attributes:
        keys: The keys as the files spell them.
        other_spellings: Ids that the files spell in another way than batches do.
        vectors: All vectors, (n, d).
        starts: First row of each file.
    """

    keys: _Keys
    other_spellings: _Keys
    vectors: npt.NDArray[np.floating[Any]]
    starts: Sequence[int]


@dataclass(slots=True)
class _Spellings:
    """Collects ids that are not spelt as batches spell them: in capitals, braces, with zeros."""

    ids: list[PointId] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)

    def add(self, keys: Sequence[str], start: int) -> None:
        """Note the ids among some keys, whose first one has the row `start`."""
        for row, key in enumerate(keys, start):
            if (point := canonical_id(key)) != key:
                self.ids.append(point)
                self.rows.append(row)

    def sort(self) -> _Keys:
        """Return what was collected, to look ids up in."""
        return _Keys.sort(_hashes(self.ids), np.array(self.rows, np.int64))


def _hashes(keys: Iterable[str]) -> _Hashes:
    """128-bit hash of each key: two of 10^10 keys collide with a probability below 10^-18."""
    digests = (
        hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        for key in keys
    )
    return np.frombuffer(b"".join(digests), "S16")
