"""Qdrant: answers of the gRPC interface as pages, without a Python float.

A vector's message is kept as bytes: for that, Qdrant's message types are declared once more, with
`bytes` where they have a VectorOutput. Both look the same on the wire.
"""

from __future__ import annotations

from collections.abc import Iterable
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

from xbtmigrate.qdrant.pages import Page, Sparse, StoredId, Unread, Vector
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
    page = Page([], [], [], [])
    for point in points:
        page.ids.append(str(_id(point.id)))
        page.payloads.append(grpc_to_payload(point.payload))
        page.shard_keys.append(_shard_key(point))
        page.vectors.append(_vectors(point))
    return page


def _id(point_id: Any) -> StoredId:
    stored: StoredId = point_id.uuid or point_id.num
    return stored


def _shard_key(point: Any) -> StoredId | None:
    if not point.HasField("shard_key"):
        return None
    key: StoredId = point.shard_key.keyword or point.shard_key.number
    return key


def _vectors(point: Any) -> dict[str, Vector]:
    match point.vectors.WhichOneof("vectors_options"):
        case "vectors":
            named = point.vectors.vectors.vectors
            return {name: _vector(named[name]) for name in named}
        case "vector":
            return {"": _vector(point.vectors.vector)}
        case _:
            return {}


def _vector(packed: bytes) -> Vector:
    """Read a VectorOutput: at once what holds numbers alone, anything else by protobuf."""
    step = _ONE_BY_ONE.itemsize
    if len(packed) % step == 0 and packed[::step].count(_TAG) == len(packed) // step:
        return np.ascontiguousarray(np.frombuffer(packed, _ONE_BY_ONE)["value"])
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
