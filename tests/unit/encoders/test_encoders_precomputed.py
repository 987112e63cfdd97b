"""Vectors looked up in a Parquet file, and every way that file can be wrong."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xbtmigrate.encoders import precomputed
from xbtmigrate.encoders.precomputed import PrecomputedEncoder
from xbtmigrate.errors import EncoderError, UnreadableSourceError
from xbtmigrate.types import Modality

VECTORS = [[3.0, 4.0], [1.0, 0.0], [0.5, -2.0]]


@pytest.fixture
def write(tmp_path):
    def write(keys, vectors=VECTORS, vector_type=None, **options):
        column = pa.array(vectors, vector_type or pa.list_(pa.float32(), 2))
        path = tmp_path / "vectors.parquet"
        pq.write_table(pa.table({"key": keys, "vector": column}), path, **options)
        return path

    return write


@pytest.mark.parametrize("value_type", [pa.float16(), pa.float32(), pa.float64()])
@pytest.mark.parametrize("size", [2, -1])
def test_every_vector_type(write, value_type, size):
    vectors = list(np.array(VECTORS, f"f{value_type.bit_width // 8}"))
    path = write(["a", "b", "c"], vectors, pa.list_(value_type, size))
    encoder = PrecomputedEncoder(path=path)
    assert encoder.dimension == 2
    vectors = encoder.encode(["c", "a", "c"], Modality.TEXT)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, [VECTORS[2], VECTORS[0], VECTORS[2]])


def test_many_row_groups_with_keys_in_any_order(write):
    keys = [f"text {number * 7919 % 1000}" for number in range(1000)]
    vectors = [[float(number), 1.0] for number in range(1000)]
    encoder = PrecomputedEncoder(path=write(keys, vectors, row_group_size=64))
    found = encoder.encode(keys[::-1], Modality.TEXT)
    np.testing.assert_array_equal(found[:, 0], np.arange(1000)[::-1])


def test_item_comes_before_id(write):
    encoder = PrecomputedEncoder(path=write(["text", "7", "8"]))
    vectors = encoder.encode(["text", "other"], Modality.TEXT, ids=["8", "7"])
    np.testing.assert_array_equal(vectors, [VECTORS[0], VECTORS[1]])


def test_integer_keys_are_point_ids(write):
    encoder = PrecomputedEncoder(path=write(pa.array([7, 8, 2**64 - 1], pa.uint64())))
    vectors = encoder.encode(["", ""], Modality.IMAGE, ids=["18446744073709551615", "7"])
    np.testing.assert_array_equal(vectors, [VECTORS[2], VECTORS[0]])


def test_missing_items_are_named_by_row(write):
    encoder = PrecomputedEncoder(path=write(["a", "b", "c"]))
    with pytest.raises(UnreadableSourceError) as caught:
        encoder.encode(["x", "a", "y"], Modality.TEXT, ids=["1", "2", "b"])
    assert set(caught.value.failures) == {0}
    assert "'x' is not in vectors.parquet" in caught.value.failures[0]


def test_normalize_scales_rows(write):
    encoder = PrecomputedEncoder(path=write(["a", "b", "c"]), normalize=True)
    np.testing.assert_allclose(encoder.encode(["a"], Modality.TEXT), [[0.6, 0.8]], rtol=1e-6)


def test_text_with_a_lone_surrogate_is_merely_missing(write):
    with pytest.raises(UnreadableSourceError):
        PrecomputedEncoder(path=write(["a", "b", "c"])).encode(["\ud800"], Modality.TEXT)


def test_equal_duplicates_are_one_key(write):
    path = write(["a", "b", "a"], [[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]])
    vectors = PrecomputedEncoder(path=path).encode(["a"], Modality.TEXT)
    np.testing.assert_array_equal(vectors, [[1.0, 2.0]])


@pytest.mark.parametrize(
    ("keys", "vectors", "vector_type", "message"),
    [
        (["a", "b", "a"], VECTORS, None, "different vectors for one key, 'a'"),
        (["a", None, "c"], VECTORS, None, "no key in row 1"),
        (["a", "b", "c"], [[1, 2], None, [3, 4]], pa.list_(pa.float32()), "missing vectors"),
        (["a", "b"], [[1, 2], [1]], pa.list_(pa.float32()), "different lengths"),
        (["a", "b"], [[], []], pa.list_(pa.float32()), "different lengths"),
        (["a", "b"], [[1, 2], [float("nan"), 1]], None, "NaN or infinity in the vector of key 'b'"),
        (["a", "b"], [[1, 2], [1, float("inf")]], None, "NaN or infinity in the vector of key 'b'"),
        (pa.array([], pa.string()), [], None, "no rows"),
    ],
)
def test_wrong_content_is_an_error_when_read(write, keys, vectors, vector_type, message):
    encoder = PrecomputedEncoder(path=write(keys, vectors, vector_type))
    with pytest.raises(EncoderError, match=message) as caught:
        encoder.encode(["a"], Modality.TEXT)
    assert caught.value.hint


def test_lengths_that_differ_between_batches(write, monkeypatch):
    keys = [str(number) for number in range(70_000)]
    vectors = [[1.0, 2.0]] * 65_536 + [[1.0]] * (70_000 - 65_536)
    encoder = PrecomputedEncoder(path=write(keys, vectors, pa.list_(pa.float32())))
    with pytest.raises(EncoderError, match="different lengths"):
        encoder.encode(["0"], Modality.TEXT)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"id": ["a"], "vector": [[1.0]]}, "no column key"),
        ({"key": ["a"], "embedding": [[1.0]]}, "no column vector"),
        ({"key": [1.5], "vector": [[1.0]]}, "keys of type double"),
        ({"key": ["a"], "vector": [["x"]]}, "vectors of type list"),
        ({"key": ["a"], "vector": [1.0]}, "vectors of type double"),
    ],
)
def test_wrong_columns_are_an_error_at_once(tmp_path, table, message):
    pq.write_table(pa.table(table), tmp_path / "v.parquet")
    with pytest.raises(EncoderError, match=message) as caught:
        PrecomputedEncoder(path=tmp_path / "v.parquet")
    assert "`key`" in caught.value.hint


def test_missing_file_and_other_file(tmp_path):
    with pytest.raises(EncoderError, match="does not exist"):
        PrecomputedEncoder(path=tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("key,vector")
    with pytest.raises(EncoderError, match="is not a Parquet file"):
        PrecomputedEncoder(path=tmp_path / "text.parquet")


def test_damaged_data_is_an_error(write):
    path = write(["a" * 400, "b" * 400, "c" * 400], compression="snappy", use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)
    path.write_bytes(content)
    with pytest.raises(EncoderError, match="cannot be read"):
        PrecomputedEncoder(path=path).encode(["a" * 400], Modality.TEXT)


def test_fingerprint_is_of_the_content(write):
    path = write(["a", "b", "c"])
    first = PrecomputedEncoder(path=path).fingerprint
    assert first == f"precomputed:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert PrecomputedEncoder(path=path, normalize=True).fingerprint != first
    write(["a", "b", "c"], [[3.0, 4.0], [1.0, 0.0], [0.5, -2.5]])
    assert PrecomputedEncoder(path=path).fingerprint != first


def test_fingerprint_of_a_large_file_reads_its_ends(write, monkeypatch):
    monkeypatch.setattr(precomputed, "_HASHED_WHOLE", 100)
    monkeypatch.setattr(precomputed, "_SAMPLED", 300)
    keys = [f"key {number}" for number in range(200)]
    vectors = [[float(number), 1.0] for number in range(200)]
    path = write(keys, vectors)
    first = PrecomputedEncoder(path=path).fingerprint
    assert PrecomputedEncoder(path=path).fingerprint == first
    write([*keys[:-1], "other"], vectors)
    assert PrecomputedEncoder(path=path).fingerprint != first
