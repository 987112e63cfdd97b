"""Encode and decode Qdrant's gRPC messages straight from and to numpy, without a Python float.

Encoding writes the bytes that protobuf's own classes would write, at a fifth of their cost; the
field numbers are those of Qdrant's points.proto and json_with_int.proto. Decoding keeps the message
of a vector as bytes: Qdrant's message types are declared once more, with `bytes` where they have a
VectorOutput. Both have the same bytes on the wire.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)
from google.protobuf.descriptor import FileDescriptor  # type: ignore[import-untyped]
from qdrant_client import models
from qdrant_client.conversions.conversion import grpc_to_payload
from qdrant_client.grpc import VectorOutput, points_pb2

from xbtmigrate.qdrant.wire.points import (
    NewPoint,
    Page,
    Sparse,
    StoredId,
    Unread,
    Vector,
    keep_finite,
    stored_id,
)
from xbtmigrate.types import PointId, Vectors

_WAIT = b"\x10\x01"  # wait = 2: true
_MEDIUM = b"\x22\x02\x08\x01"  # ordering = 4: WriteOrdering{type = 1: Medium}


def encode_vector_updates(
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
    # Packed floats are little-endian IEEE 754 on the wire: a row's memory is sent as it is.
    values = np.ascontiguousarray(rows, "<f4").data.cast("B")
    width = rows.shape[1] * 4
    # PointVectors.vectors -> Vectors.vectors -> an entry of the map, whose value is dense.data.
    head = _opened((2, 2, 1), width, _field(1, name.encode()) + _opened((2, 101, 1), width))
    parts: list[bytes | memoryview] = [_field(1, collection.encode()), _WAIT]
    for row, point_id in enumerate(ids):
        start = _field(1, _encode_id(point_id)) + head
        # 0x1a is the tag of field 3, `points`, length-delimited (3 << 3 | 2).
        parts.append(b"\x1a" + _varint(len(start) + width) + start)
        parts.append(values[row * width : (row + 1) * width])
    return b"".join([*parts, _MEDIUM, _encode_shard_key(shard_key)])


def encode_upserts(
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
    parts += [_field(3, _encode_point(point)) for point in points]
    return b"".join([*parts, _MEDIUM, _encode_shard_key(shard_key)])


def _encode_point(point: NewPoint) -> bytes:
    # PointStruct: id = 1, payload = 3, vectors = 4. A map travels as repeated entries of key = 1
    # and value = 2.
    payload = [
        _field(3, _encode_entry(key, _encode_value(each))) for key, each in point.payload.items()
    ]
    vectors = [
        _field(1, _encode_entry(name, _encode_vector(each))) for name, each in point.vectors.items()
    ]
    named = _field(4, _field(2, b"".join(vectors)))
    return b"".join([_field(1, _encode_id(point.id)), *payload, named])


def _encode_vector(vector: Vector) -> bytes:
    if isinstance(vector, Sparse):
        indices = b"".join(map(_varint, vector.indices.tolist()))
        return _field(102, _field(1, _encode_floats(vector.values)) + _field(2, indices))
    # The oneof of Vector: dense = 101, sparse = 102, multi_dense = 103.
    if vector.ndim == 1:
        return _field(101, _field(1, _encode_floats(vector)))
    return _field(103, b"".join(_field(1, _field(1, _encode_floats(row))) for row in vector))


def _encode_floats(values: Vectors) -> bytes:
    return values.astype("<f4", copy=False).tobytes()


def _encode_value(value: Any) -> bytes:  # noqa: PLR0911 - one for each type of JSON
    """Pack a Value of json_with_int.proto."""
    match value:
        case None:
            return b"\x08\x00"
        # Before int: in Python a bool is an int.
        case bool():
            return b"\x28\x01" if value else b"\x28\x00"
        case int():
            # A varint of the two's complement. Beyond 64 bits signed this raises OverflowError, and
            # the writer sends JSON instead.
            complement = value.to_bytes(8, "little", signed=True)
            return b"\x18" + _varint(int.from_bytes(complement, "little"))
        case float():
            return b"\x11" + struct.pack("<d", value)
        case str():
            return _field(4, value.encode())
        case list():
            return _field(7, b"".join(_field(1, _encode_value(each)) for each in value))
        case _:
            entries = (
                _field(1, _encode_entry(key, _encode_value(each))) for key, each in value.items()
            )
            return _field(6, b"".join(entries))


def _encode_entry(key: str, value: bytes) -> bytes:
    return _field(1, key.encode()) + _field(2, value)


def _encode_id(point_id: PointId) -> bytes:
    native = stored_id(point_id)
    if isinstance(native, int):
        return b"\x08" + _varint(native)
    return _field(2, native.encode())


def _encode_shard_key(key: models.ShardKey | None) -> bytes:
    if key is None:
        return b""
    packed = b"\x10" + _varint(key) if isinstance(key, int) else _field(1, key.encode())
    return _field(5, _field(1, packed))


def _field(number: int, content: bytes) -> bytes:
    return _head(number, len(content)) + content


def _opened(path: Sequence[int], size: int, inner: bytes = b"") -> bytes:
    """Open nested fields, outermost first, around `inner` and `size` bytes that follow it."""
    # A field's length precedes its content, so the innermost field is built first.
    for number in reversed(path):
        inner = _head(number, len(inner) + size) + inner
    return inner


def _head(number: int, size: int) -> bytes:
    return _varint(number << 3 | 2) + _varint(size)


def _varint(number: int) -> bytes:
    # Base 128, low bits first, bit 7 set on all bytes but the last; most lengths take one byte.
    if number < 0x80:
        return _BYTES[number]
    packed = bytearray()
    while number >= 0x80:
        packed.append(number & 0x7F | 0x80)
        number >>= 7
    packed.append(number)
    return bytes(packed)


_BYTES = [bytes([number]) for number in range(0x80)]


_Field = descriptor_pb2.FieldDescriptorProto
_ONE_BY_ONE = np.dtype([("tag", "u1"), ("value", "<f4")])
"""A float of VectorOutput.data as servers write it: the field's tag before each number."""
# Field 1 with wire type 5, which is 32 bits.
_TAG = 1 << 3 | 5


def parse_points(answer: bytes) -> Unread:
    """Parse a GetResponse: the points to be read later."""
    return partial(_decode_page, _type("GetResponse").FromString(answer).result)


@cache
def _type(name: str) -> Any:
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"qdrant.{name}"))


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    # A separate pool, because the default one holds Qdrant's declarations under these names.
    pool = descriptor_pool.DescriptorPool()
    for each in _with_imports(points_pb2.DESCRIPTOR):
        file = descriptor_pb2.FileDescriptorProto()
        each.CopyToProto(file)
        for message in file.message_type:
            for part in (message, *message.nested_type):
                for field in part.field:
                    if field.type_name == ".qdrant.VectorOutput":
                        field.type = _Field.TYPE_BYTES
                        field.ClearField("type_name")
        pool.Add(file)
    return pool


def _with_imports(file: FileDescriptor) -> list[FileDescriptor]:
    """List a file's imports before it, each once."""
    imports = [each for imported in file.dependencies for each in _with_imports(imported)]
    return list({each.name: each for each in [*imports, file]}.values())


def _decode_page(points: Iterable[Any]) -> Page:
    ids, payloads, keys, packed = [], [], [], []
    for point in points:
        ids.append(str(_decode_id(point.id)))
        payloads.append(grpc_to_payload(point.payload))
        keys.append(_decode_shard_key(point))
        packed.append(_vector_bytes(point))
    return Page(ids, payloads, keys, _decode_named(packed))


def _decode_id(point_id: Any) -> StoredId:
    # An unset field reads as "" or 0, and 0 is itself a valid number.
    stored: StoredId = point_id.uuid or point_id.num
    return stored


def _decode_shard_key(point: Any) -> StoredId | None:
    if not point.HasField("shard_key"):
        return None
    key: StoredId = point.shard_key.keyword or point.shard_key.number
    return key


def _vector_bytes(point: Any) -> dict[str, bytes]:
    match point.vectors.WhichOneof("vectors_options"):
        case "vectors":
            named = point.vectors.vectors.vectors
            return {name: named[name] for name in named}
        case "vector":
            return {"": point.vectors.vector}
        case _:
            return {}


def _decode_named(packed: Sequence[Mapping[str, bytes]]) -> list[dict[str, Vector]]:
    rows: list[dict[str, Vector]] = [{} for _ in packed]
    for name in dict.fromkeys(name for each in packed for name in each):
        owners = [row for row, each in enumerate(packed) if name in each]
        vectors = _decode_vectors([packed[row][name] for row in owners])
        for row, vector in zip(owners, vectors, strict=True):
            rows[row][name] = vector
    return keep_finite(rows)


def _decode_vectors(packed: Sequence[bytes]) -> list[Vector]:
    """Read each VectorOutput: all at once if they hold equally many floats and nothing else."""
    length = len(packed[0])
    if length % _ONE_BY_ONE.itemsize == 0 and all(len(each) == length for each in packed):
        together = np.frombuffer(b"".join(packed), _ONE_BY_ONE)
        if np.all(together["tag"] == _TAG):
            return list(np.ascontiguousarray(together["value"]).reshape(len(packed), -1))
    return [_decode_vector(each) for each in packed]


def _decode_vector(packed: bytes) -> Vector:
    """Read a VectorOutput of any kind."""
    message = VectorOutput.FromString(packed)
    match message.WhichOneof("vector"):
        case "dense":
            return _decode_floats(message.dense.data)
        case "sparse":
            return _decode_sparse(message.sparse.indices, message.sparse.values)
        case "multi_dense":
            return np.stack([_decode_floats(row.data) for row in message.multi_dense.vectors])
    # The older form has no oneof: `data`, with `indices` if it is sparse and `vectors_count` if it
    # is a multivector.
    if message.HasField("indices"):
        return _decode_sparse(message.indices.data, message.data)
    values = _decode_floats(message.data)
    return values.reshape(message.vectors_count, -1) if message.vectors_count else values


def _decode_sparse(indices: Iterable[int], values: Iterable[float]) -> Sparse:
    return Sparse(np.fromiter(indices, np.uint32), _decode_floats(values))


def _decode_floats(numbers: Iterable[float]) -> Vectors:
    return np.fromiter(numbers, np.float32)
