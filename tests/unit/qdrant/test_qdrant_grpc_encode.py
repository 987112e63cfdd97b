"""Requests packed by hand are those that protobuf's own classes make."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import models
from qdrant_client.conversions.conversion import RestToGrpc
from qdrant_client.grpc import UpdatePointVectors, UpsertPoints, WriteOrdering, WriteOrderingType

from xbtmigrate.qdrant.wire.points import NewPoint, Sparse, stored_id
from xbtmigrate.qdrant.wire.protobuf import encode_upserts, encode_vector_updates

UUID = "0b8f0f6e-0f0e-4c63-8f0a-2f6f8a3f7e11"
ORDERING = WriteOrdering(type=WriteOrderingType.Medium)
IDS = st.one_of(st.integers(0, 2**64 - 1).map(str), st.uuids().map(str))
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
        st.text(),
    ),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=12,
)


def selector(key: models.ShardKey | None):
    return None if key is None else RestToGrpc.convert_shard_key_selector(key)


@pytest.mark.parametrize("key", [None, "tenant", 300])
@pytest.mark.parametrize("size", [1, 31, 32, 768, 5000])
def test_vector_updates_equal_protobuf_byte_for_byte(
    size: int, key: models.ShardKey | None
) -> None:
    ids = ["0", "127", "128", str(2**64 - 1), UUID]
    rows = np.random.default_rng(0).standard_normal((5, size)).astype(np.float32)
    expected = UpdatePointVectors(
        collection_name="ünïcode",
        wait=True,
        points=[
            RestToGrpc.convert_point_vectors(
                models.PointVectors(id=stored_id(each), vector={"new": row.tolist()})
            )
            for each, row in zip(ids, rows, strict=True)
        ],
        ordering=ORDERING,
        shard_key_selector=selector(key),
    )
    assert encode_vector_updates("ünïcode", ids, "new", rows, key) == expected.SerializeToString()


def test_rows_of_another_layout_are_packed_as_they_read() -> None:
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    turned = np.asfortranarray(rows)
    wide = np.repeat(rows, 2, axis=1)[:, ::2]
    packed = encode_vector_updates("c", ["1", "2", "3"], "new", rows, None)
    assert encode_vector_updates("c", ["1", "2", "3"], "new", turned, None) == packed
    assert encode_vector_updates("c", ["1", "2", "3"], "new", wide, None) == packed


@given(ids=st.lists(IDS, min_size=1, max_size=4), payload=st.dictionaries(st.text(), JSON))
def test_upserts_mean_what_protobuf_means(ids: list[str], payload: dict[str, object]) -> None:
    dense = np.array([1.5, -2.0], np.float32)
    multi = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], np.float32)
    sparse = Sparse(np.array([3, 2**32 - 1], np.uint32), np.array([0.5, 1.0], np.float32))
    points = [NewPoint(each, payload, {"a": dense, "m": multi, "s": sparse}) for each in ids]
    structs = [
        RestToGrpc.convert_point_struct(
            models.PointStruct(
                id=stored_id(each),
                payload=payload,
                vector={
                    "a": dense.tolist(),
                    "m": multi.tolist(),
                    "s": models.SparseVector(
                        indices=sparse.indices.tolist(), values=sparse.values.tolist()
                    ),
                },
            )
        )
        for each in ids
    ]
    expected = UpsertPoints(
        collection_name="c",
        wait=True,
        points=structs,
        ordering=ORDERING,
        shard_key_selector=selector("k"),
    )
    assert UpsertPoints.FromString(encode_upserts("c", points, "k")) == expected


def test_an_integer_that_grpc_cannot_carry_is_refused() -> None:
    point = NewPoint("1", {"hash": 2**63}, {"": np.zeros(2, np.float32)})
    with pytest.raises(OverflowError):
        encode_upserts("c", [point], None)
