"""Qdrant: requests of the gRPC interface packed from numpy rows, without a Python float.

Numbers are those of the fields in Qdrant's points.proto and json_with_int.proto. What comes out is
what protobuf's own classes would have made, at a fifth of their cost.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from qdrant_client import models

from xbtmigrate.qdrant.wire.point_page import NewPoint, Sparse, Vector, stored_id
from xbtmigrate.types import PointId, Vectors

_WAIT = b"\x10\x01"  # wait = 2: true
_MEDIUM = b"\x22\x02\x08\x01"  # ordering = 4: WriteOrdering{type = 1: Medium}


def vector_updates(
    collection: str,
    ids: Sequence[PointId],
    name: str,
    rows: Vectors,
    shard_key: models.ShardKey | None,
) -> bytes:
    """Pack an UpdatePointVectors that sets one named vector of each point.

    Args:
        collection: Name of the collection.
        ids: n point ids.
        name: Name of the vector.
        rows: Its new values, float32 (n, d).
        shard_key: Shard key of the points, None under automatic sharding.
    """
    values = np.ascontiguousarray(rows, "<f4").data.cast("B")
    width = rows.shape[1] * 4
    # PointVectors.vectors -> Vectors.vectors -> an entry of the map, whose value is dense.data.
    head = _opened((2, 2, 1), width, _field(1, name.encode()) + _opened((2, 101, 1), width))
    parts: list[bytes | memoryview] = [_field(1, collection.encode()), _WAIT]
    for row, point_id in enumerate(ids):
        start = _field(1, _id(point_id)) + head
        parts.append(b"\x1a" + _varint(len(start) + width) + start)
        parts.append(values[row * width : (row + 1) * width])
    return b"".join([*parts, _MEDIUM, _shard_key(shard_key)])


def upserts(
    collection: str, points: Sequence[NewPoint], shard_key: models.ShardKey | None
) -> bytes:
    """Pack an UpsertPoints.

    Args:
        collection: Name of the collection.
        points: The points.
        shard_key: Their shard key, None under automatic sharding.

    Raises:
        OverflowError: A payload holds an integer that the gRPC interface cannot carry.
    """
    parts = [_field(1, collection.encode()), _WAIT]
    parts += [_field(3, _point(point)) for point in points]
    return b"".join([*parts, _MEDIUM, _shard_key(shard_key)])


def _point(point: NewPoint) -> bytes:
    payload = [_field(3, _entry(key, _value(each))) for key, each in point.payload.items()]
    vectors = [_field(1, _entry(name, _vector(each))) for name, each in point.vectors.items()]
    named = _field(4, _field(2, b"".join(vectors)))
    return b"".join([_field(1, _id(point.id)), *payload, named])


def _vector(vector: Vector) -> bytes:
    if isinstance(vector, Sparse):
        indices = b"".join(map(_varint, vector.indices.tolist()))
        return _field(102, _field(1, _floats(vector.values)) + _field(2, indices))
    if vector.ndim == 1:
        return _field(101, _field(1, _floats(vector)))
    return _field(103, b"".join(_field(1, _field(1, _floats(row))) for row in vector))


def _floats(values: Vectors) -> bytes:
    return values.astype("<f4", copy=False).tobytes()


def _value(value: Any) -> bytes:  # noqa: PLR0911 - one for each type of JSON
    """Pack a Value of json_with_int.proto."""
    match value:
        case None:
            return b"\x08\x00"
        case bool():
            return b"\x28\x01" if value else b"\x28\x00"
        case int():
            complement = value.to_bytes(8, "little", signed=True)
            return b"\x18" + _varint(int.from_bytes(complement, "little"))
        case float():
            return b"\x11" + struct.pack("<d", value)
        case str():
            return _field(4, value.encode())
        case list():
            return _field(7, b"".join(_field(1, _value(each)) for each in value))
        case _:
            entries = (_field(1, _entry(key, _value(each))) for key, each in value.items())
            return _field(6, b"".join(entries))


def _entry(key: str, value: bytes) -> bytes:
    return _field(1, key.encode()) + _field(2, value)


def _id(point_id: PointId) -> bytes:
    native = stored_id(point_id)
    if isinstance(native, int):
        return b"\x08" + _varint(native)
    return _field(2, native.encode())


def _shard_key(key: models.ShardKey | None) -> bytes:
    if key is None:
        return b""
    packed = b"\x10" + _varint(key) if isinstance(key, int) else _field(1, key.encode())
    return _field(5, _field(1, packed))


def _field(number: int, content: bytes) -> bytes:
    return _head(number, len(content)) + content


def _opened(path: Sequence[int], size: int, inner: bytes = b"") -> bytes:
    """Open nested fields, outermost first, around `inner` and `size` bytes that follow it."""
    for number in reversed(path):
        inner = _head(number, len(inner) + size) + inner
    return inner


def _head(number: int, size: int) -> bytes:
    return _varint(number << 3 | 2) + _varint(size)


def _varint(number: int) -> bytes:
    if number < 0x80:
        return _BYTES[number]
    packed = bytearray()
    while number >= 0x80:
        packed.append(number & 0x7F | 0x80)
        number >>= 7
    packed.append(number)
    return bytes(packed)


_BYTES = [bytes([number]) for number in range(0x80)]
