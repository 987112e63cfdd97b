"""Qdrant: points as they are read and written: ids, payloads, and vectors as numpy rows."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import simdjson
from qdrant_client import models

from xbtmigrate.errors import CollectionError
from xbtmigrate.qdrant.wire.payload import EmbeddedFields
from xbtmigrate.types import PointId, Vectors, content_hash, is_unicode, usable, vector_array

StoredId: TypeAlias = int | str


@dataclass(frozen=True, slots=True)
class Sparse:
    """A sparse vector: uint32 indices and float32 values, both of shape (k,)."""

    indices: npt.NDArray[np.uint32]
    values: Vectors


Vector: TypeAlias = Vectors | Sparse
"""A dense vector (d,), a multivector (k, d), or a sparse one."""


@dataclass(frozen=True, slots=True)
class NewPoint:
    """A whole point to be stored; the name of an unnamed vector is ""."""

    id: PointId
    payload: Mapping[str, Any]
    vectors: Mapping[str, Vector]


@dataclass(frozen=True, slots=True)
class Page:
    """Some points, column by column, n rows each.

    Attributes:
        ids: Point ids.
        payloads: Payloads, as far as they were asked for.
        shard_keys: Shard keys, None under automatic sharding.
        vectors: The vectors that were asked for, by name; "" is the unnamed one. Those that hold
            NaN or infinity, which servers take over gRPC, are left out as if they were not there.
    """

    ids: list[PointId]
    payloads: list[dict[str, Any]]
    shard_keys: list[models.ShardKey | None]
    vectors: list[dict[str, Vector]]

    def __len__(self) -> int:
        """Number of points."""
        return len(self.ids)

    def rows(self, rows: Sequence[int]) -> Page:
        """Keep the points of these rows, in this order."""
        return Page(
            [self.ids[row] for row in rows],
            [self.payloads[row] for row in rows],
            [self.shard_keys[row] for row in rows],
            [self.vectors[row] for row in rows],
        )

    def having(self, ids: Collection[PointId]) -> Page:
        """Keep the points of these ids."""
        wanted = set(ids)
        return self.rows([row for row, each in enumerate(self.ids) if each in wanted])

    def dense(self, name: str, size: int) -> pa.Array:
        """Build a fixed_size_list column of one vector; null where there is no usable one."""
        matrix = self.matrix(name, size)
        valid = usable(matrix)
        matrix[~valid] = np.nan
        return vector_array(matrix, valid)

    def matrix(self, name: str, size: int) -> Vectors:
        """Put one dense vector of the points into rows, (n, size); NaN where it is missing."""
        matrix: Vectors = np.full((len(self), size), np.nan, dtype=np.float32)
        for row, vectors in enumerate(self.vectors):
            if isinstance(each := vectors.get(name), np.ndarray):
                matrix[row] = each
        return matrix

    def source_columns(self, fields: EmbeddedFields) -> dict[str, pa.Array]:
        """Build the columns text, image and content_hash.

        What is not Unicode has a hash, but nothing that could be embedded.
        """
        columns: dict[str, list[str | None]] = {
            "text": [fields.text_of(payload) for payload in self.payloads],
            "image": [fields.image_of(payload) for payload in self.payloads],
        }
        columns["content_hash"] = [content_hash(each) for each in columns[fields.stored.value]]
        return {name: _strings(values) for name, values in columns.items()}


def _strings(values: Sequence[str | None]) -> pa.Array:
    """Build a column of texts; those that are not Unicode become null."""
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        readable = [each if each is None or is_unicode(each) else None for each in values]
        return pa.array(readable, pa.string())


Unread: TypeAlias = Callable[[], Page]
"""An answer that has come and is not yet taken apart."""


def stored_id(point_id: PointId) -> StoredId:
    """Turn the batch's string id into Qdrant's integer or canonical UUID.

    Raises:
        CollectionError: It is neither.
    """
    if point_id.isascii() and point_id.isdecimal() and int(point_id) < 2**64:
        return int(point_id)
    try:
        return str(uuid.UUID(point_id))
    except ValueError:
        raise CollectionError(
            f"'{point_id}' is not a point id", "ids are integers from 0 to 2^64-1 or UUIDs"
        ) from None


def numbers_only(points: Iterable[Mapping[str, Vector]]) -> list[dict[str, Vector]]:
    """Leave out the vectors that hold NaN or infinity; points stay in their order."""
    with np.errstate(over="ignore", invalid="ignore"):
        return [
            {name: each for name, each in vectors.items() if _is_finite(each)} for vectors in points
        ]


def page_of_records(records: Sequence[models.Record]) -> Page:
    """Turn the client's records into a page."""
    return Page(
        [str(record.id) for record in records],
        [record.payload or {} for record in records],
        [record.shard_key for record in records],
        numbers_only(map(_vectors_of_record, records)),
    )


def scrolled(answer: bytes) -> tuple[Unread, StoredId | None]:
    """Parse the answer to a scroll: the points to be read, and where the next page starts.

    Raises:
        JSONDecodeError: It is not the answer of a Qdrant.
    """
    result = _result(answer)
    following = cast("StoredId | None", result["next_page_offset"])
    return partial(_page, result["points"]), following


def retrieved(answer: bytes) -> Page:
    """Parse the answer to a request for points by id.

    Raises:
        JSONDecodeError: It is not the answer of a Qdrant.
    """
    return _page(_result(answer))


def _result(answer: bytes) -> Any:
    try:
        # A parser cannot be used again while anything of its last document is alive.
        document: Any = simdjson.Parser().parse(answer)
        return document["result"]
    except (ValueError, KeyError, TypeError) as error:
        raise json.JSONDecodeError(str(error), "", 0) from error


def _page(points: Any) -> Page:
    # To ask a parsed object for a key that it lacks takes longer than all the rest.
    present = [{key: point[key] for key in point} for point in points]
    payloads = [each.get("payload") for each in present]
    return Page(
        [str(each["id"]) for each in present],
        [{} if payload is None else payload.as_dict() for payload in payloads],
        [each.get("shard_key") for each in present],
        numbers_only(_vectors_of_json(each.get("vector")) for each in present),
    )


def _vectors_of_json(vector: Any) -> dict[str, Vector]:
    if vector is None:
        return {}
    if isinstance(vector, simdjson.Array):
        return {"": _array(vector)}
    # `items` would turn the values into lists.
    return {name: _vector_of_json(vector[name]) for name in vector}


def _vector_of_json(vector: Any) -> Vector:
    if isinstance(vector, simdjson.Array):
        return _array(vector)
    indices = np.frombuffer(vector["indices"].as_buffer(of_type="u"), np.uint64)
    return Sparse(indices.astype(np.uint32), _array(vector["values"]))


def _array(numbers: Any) -> Vectors:
    """Take a JSON array, or one of equally long arrays, as float32 without a Python float."""
    try:
        flat = np.frombuffer(numbers.as_buffer(of_type="d"), np.float64).astype(np.float32)
    except TypeError:
        # A server shows NaN and infinity as null.
        return np.array(numbers.as_list(), np.float32)
    if len(numbers) and isinstance(numbers[0], simdjson.Array):
        return flat.reshape(len(numbers), -1)
    return flat


def _is_finite(vector: Vector) -> bool:
    values = vector.values if isinstance(vector, Sparse) else vector.ravel()
    # The sum of squares alone tells for nearly all vectors, in a fifth of the time.
    return math.isfinite(values.dot(values)) or bool(np.isfinite(values).all())


def _vectors_of_record(record: models.Record) -> dict[str, Vector]:
    vectors = record.vector
    if vectors is None:
        return {}
    named = vectors if isinstance(vectors, Mapping) else {"": vectors}
    return {name: _vector_of_record(each) for name, each in named.items()}


def _vector_of_record(vector: Any) -> Vector:
    if isinstance(vector, models.SparseVector):
        return Sparse(np.array(vector.indices, np.uint32), np.array(vector.values, np.float32))
    return np.array(vector, np.float32)
