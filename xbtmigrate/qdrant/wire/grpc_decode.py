"""Qdrant: answers of the gRPC interface as pages, without a Python float.

A vector's message is kept as bytes: for that, Qdrant's message types are declared once more, with
`bytes` where they have a VectorOutput. Both look the same on the wire.
"""

from __future__ import annotations

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
from qdrant_client.conversions.conversion import grpc_to_payload
from qdrant_client.grpc import VectorOutput, points_pb2

from xbtmigrate.qdrant.wire.point_page import Page, Sparse, StoredId, Unread, Vector, numbers_only
from xbtmigrate.types import Vectors

_Field = descriptor_pb2.FieldDescriptorProto
_ONE_BY_ONE = np.dtype([("tag", "u1"), ("value", "<f4")])
"""A float of VectorOutput.data as servers write it: the field's tag before each number."""
_TAG = 1 << 3 | 5


def scrolled(answer: bytes) -> tuple[Unread, StoredId | None]:
    """Parse a ScrollResponse: the points to be read, and where the next page starts."""
    response = _type("ScrollResponse").FromString(answer)
    more = response.HasField("next_page_offset")
    following = _id(response.next_page_offset) if more else None
    return partial(_page, response.result), following


def retrieved(answer: bytes) -> Page:
    """Parse a GetResponse."""
    return _page(_type("GetResponse").FromString(answer).result)


@cache
def _type(name: str) -> Any:
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"qdrant.{name}"))


@cache
def _pool() -> descriptor_pool.DescriptorPool:
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


def _page(points: Iterable[Any]) -> Page:
    ids, payloads, keys, packed = [], [], [], []
    for point in points:
        ids.append(str(_id(point.id)))
        payloads.append(grpc_to_payload(point.payload))
        keys.append(_shard_key(point))
        packed.append(_packed_vectors(point))
    return Page(ids, payloads, keys, _unpacked(packed))


def _id(point_id: Any) -> StoredId:
    stored: StoredId = point_id.uuid or point_id.num
    return stored


def _shard_key(point: Any) -> StoredId | None:
    if not point.HasField("shard_key"):
        return None
    key: StoredId = point.shard_key.keyword or point.shard_key.number
    return key


def _packed_vectors(point: Any) -> dict[str, bytes]:
    match point.vectors.WhichOneof("vectors_options"):
        case "vectors":
            named = point.vectors.vectors.vectors
            return {name: named[name] for name in named}
        case "vector":
            return {"": point.vectors.vector}
        case _:
            return {}


def _unpacked(packed: Sequence[Mapping[str, bytes]]) -> list[dict[str, Vector]]:
    rows: list[dict[str, Vector]] = [{} for _ in packed]
    for name in dict.fromkeys(name for each in packed for name in each):
        owners = [row for row, each in enumerate(packed) if name in each]
        vectors = _vectors([packed[row][name] for row in owners])
        for row, vector in zip(owners, vectors, strict=True):
            rows[row][name] = vector
    return numbers_only(rows)


def _vectors(packed: Sequence[bytes]) -> list[Vector]:
    """Read each VectorOutput: all at once if they hold equally many numbers and nothing else."""
    length = len(packed[0])
    if length % _ONE_BY_ONE.itemsize == 0 and all(len(each) == length for each in packed):
        together = np.frombuffer(b"".join(packed), _ONE_BY_ONE)
        if np.all(together["tag"] == _TAG):
            return list(np.ascontiguousarray(together["value"]).reshape(len(packed), -1))
    return [_vector(each) for each in packed]


def _vector(packed: bytes) -> Vector:
    """Read a VectorOutput of any kind."""
    message = VectorOutput.FromString(packed)
    match message.WhichOneof("vector"):
        case "dense":
            return _floats(message.dense.data)
        case "sparse":
            return _sparse(message.sparse.indices, message.sparse.values)
        case "multi_dense":
            return np.stack([_floats(row.data) for row in message.multi_dense.vectors])
    if message.HasField("indices"):
        return _sparse(message.indices.data, message.data)
    values = _floats(message.data)
    return values.reshape(message.vectors_count, -1) if message.vectors_count else values


def _sparse(indices: Iterable[int], values: Iterable[float]) -> Sparse:
    return Sparse(np.fromiter(indices, np.uint32), _floats(values))


def _floats(numbers: Iterable[float]) -> Vectors:
    return np.fromiter(numbers, np.float32)
