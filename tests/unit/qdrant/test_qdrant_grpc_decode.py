"""Answers of the gRPC interface, in the forms that older and newer servers give to a vector."""

from __future__ import annotations

import numpy as np
import pytest
from qdrant_client import grpc

from xbtmigrate.qdrant.wire.points import Sparse
from xbtmigrate.qdrant.wire.protobuf import parse_points

ROW = [0.5, -1.25, 3.0]
ROWS = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]


def answer_of(*vectors: grpc.VectorsOutput) -> bytes:
    points = [
        grpc.RetrievedPoint(id=grpc.PointId(num=number), vectors=each)
        for number, each in enumerate(vectors)
    ]
    answer: bytes = grpc.GetResponse(result=points).SerializeToString()
    return answer


def unnamed(vector: grpc.VectorOutput) -> grpc.VectorsOutput:
    return grpc.VectorsOutput(vector=vector)


def test_floats_each_behind_a_tag_are_read_at_once() -> None:
    tagged = b"".join(b"\x0d" + np.float32(each).tobytes() for each in ROW)
    packed = grpc.VectorOutput.FromString(tagged).SerializeToString()
    assert packed != tagged, "protobuf packs them; a server of Qdrant does not"
    inside = b"\x0a" + bytes([len(tagged)]) + tagged
    point = b"\x22" + bytes([len(inside)]) + inside
    page = parse_points(b"\x0a" + bytes([len(point)]) + point)()
    assert np.asarray(page.vectors[0][""]).tolist() == ROW


@pytest.mark.parametrize(
    "vector",
    [
        grpc.VectorOutput(data=ROW),
        grpc.VectorOutput(dense=grpc.DenseVector(data=ROW)),
    ],
)
def test_a_dense_vector_is_read_in_every_form(vector: grpc.VectorOutput) -> None:
    page = parse_points(answer_of(unnamed(vector)))()
    assert np.asarray(page.vectors[0][""]).tolist() == ROW


@pytest.mark.parametrize(
    "vector",
    [
        grpc.VectorOutput(data=[*ROWS[0], *ROWS[1], *ROWS[2]], vectors_count=3),
        grpc.VectorOutput(
            multi_dense=grpc.MultiDenseVector(vectors=[grpc.DenseVector(data=row) for row in ROWS])
        ),
    ],
)
def test_a_multivector_is_read_in_every_form(vector: grpc.VectorOutput) -> None:
    page = parse_points(answer_of(unnamed(vector)))()
    assert np.asarray(page.vectors[0][""]).tolist() == ROWS


@pytest.mark.parametrize(
    "vector",
    [
        grpc.VectorOutput(data=ROW, indices=grpc.SparseIndices(data=[1, 5, 2**32 - 1])),
        grpc.VectorOutput(sparse=grpc.SparseVector(values=ROW, indices=[1, 5, 2**32 - 1])),
    ],
)
def test_a_sparse_vector_is_read_in_every_form(vector: grpc.VectorOutput) -> None:
    page = parse_points(answer_of(unnamed(vector)))()
    found = page.vectors[0][""]
    assert isinstance(found, Sparse)
    assert (found.indices.tolist(), found.values.tolist()) == ([1, 5, 2**32 - 1], ROW)


def test_names_ids_and_shard_keys_are_kept() -> None:
    uuid = "6f1d1a4e-6d0d-5b57-9a0b-5b3c2f6f0e11"
    named = grpc.NamedVectorsOutput(vectors={"old": grpc.VectorOutput(data=ROW)})
    points = [
        grpc.RetrievedPoint(
            id=grpc.PointId(uuid=uuid),
            vectors=grpc.VectorsOutput(vectors=named),
            shard_key=grpc.ShardKey(keyword="eu"),
        ),
        grpc.RetrievedPoint(id=grpc.PointId(num=0), shard_key=grpc.ShardKey(number=0)),
    ]
    page = parse_points(grpc.GetResponse(result=points).SerializeToString())()
    assert page.ids == [uuid, "0"]
    assert page.shard_keys == ["eu", 0]
    assert [list(each) for each in page.vectors] == [["old"], []]
