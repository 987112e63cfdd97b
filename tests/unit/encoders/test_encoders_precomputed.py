"""Vectors looked up in a Parquet file, and every way that file can be wrong."""

from __future__ import annotations

import hashlib
import uuid
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from xbtmigrate.encoders import vector_files
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
    for missing in ("none.parquet", "none/*.parquet"):
        with pytest.raises(EncoderError, match="does not exist"):
            PrecomputedEncoder(path=tmp_path / missing)
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
    monkeypatch.setattr(vector_files, "_HASHED_WHOLE", 100)
    monkeypatch.setattr(vector_files, "_SAMPLED", 300)
    keys = [f"key {number}" for number in range(200)]
    vectors = [[float(number), 1.0] for number in range(200)]
    path = write(keys, vectors)
    first = PrecomputedEncoder(path=path).fingerprint
    assert PrecomputedEncoder(path=path).fingerprint == first
    write([*keys[:-1], "other"], vectors)
    assert PrecomputedEncoder(path=path).fingerprint != first


UUID = uuid.UUID("3f2504e0-4f89-41d3-9a0c-0305e82c3301")


@pytest.mark.parametrize(
    ("keys", "point"),
    [
        (pa.array([UUID.bytes], pa.binary(16)), str(UUID)),
        (pa.array([Decimal(2**64 - 1)], pa.decimal128(20, 0)), str(2**64 - 1)),
        (pa.array([7], pa.int8()), "7"),
        (pa.array(["7"]).dictionary_encode(), "7"),
        (pa.array([7]).dictionary_encode(), "7"),
        (pa.array(["7"], pa.string_view()), "7"),
        (pa.array([b"7"], pa.binary()), "7"),
        (pa.array([b"7"], pa.large_binary()), "7"),
        (pa.array(["7"], pa.large_string()), "7"),
        (pa.array([str(UUID).upper()]), str(UUID)),
        (pa.array([UUID.hex]), str(UUID)),
        (pa.array([UUID.urn]), str(UUID)),
        (pa.array([f"{{{UUID}}}"]), str(UUID)),
        (pa.array(["007"]), "7"),
    ],
)  # fmt: skip
def test_ids_of_every_type_and_spelling(write, keys, point):
    encoder = PrecomputedEncoder(path=write(keys, VECTORS[:1]))
    np.testing.assert_array_equal(encoder.encode(["x"], Modality.TEXT, ids=[point]), VECTORS[:1])
    # Only ids have spellings: a text is what it is.
    text = keys[0].as_py() if pa.types.is_string(keys.type) else point
    assert encoder.find_missing([str(text), "x"]).tolist() == [False, True]


def test_ids_of_the_extension_type(tmp_path):
    # As Arrow marks it in a file: pyarrow 17 reads the bytes, later versions the extension type.
    marks = {"ARROW:extension:name": "arrow.uuid", "ARROW:extension:metadata": ""}
    fields = [
        pa.field("key", pa.binary(16), metadata=marks),
        pa.field("vector", pa.list_(pa.float32(), 2)),
    ]
    table = pa.table([[UUID.bytes], VECTORS[:1]], schema=pa.schema(fields))
    pq.write_table(table, tmp_path / "v.parquet")
    encoder = PrecomputedEncoder(path=tmp_path / "v.parquet")
    assert not encoder.find_missing(["x"], ids=[str(UUID)]).any()


@pytest.fixture
def folder(tmp_path):
    """A folder as Spark writes it, with two files of vectors in another precision each."""
    folder = tmp_path / "new"
    for name, keys, kind in (("a", ["1", "2"], "float16"), ("b/c", ["3"], "float32")):
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [VECTORS[int(key) - 1] for key in keys]
        column = pa.array(list(np.array(rows, kind)), pa.list_(pa.type_for_alias(kind), 2))
        pq.write_table(pa.table({"key": keys, "vector": column}), path)
    (folder / "_SUCCESS").touch()
    (folder / "_temporary").mkdir()
    (folder / "_temporary" / "part.parquet").write_text("half")
    (folder / ".a.parquet.crc").write_text("sum")
    return folder


def test_a_folder_is_read_whole_and_a_pattern_in_part(folder):
    encoder = PrecomputedEncoder(path=folder)
    np.testing.assert_array_equal(encoder.encode(["3", "1"], Modality.TEXT), VECTORS[::-2])
    for pattern, missing in (("*.parquet", [False, True]), ("*/*", [True, False])):
        found = PrecomputedEncoder(path=folder / pattern).find_missing(["1", "3"])
        assert found.tolist() == missing, pattern


@pytest.mark.parametrize("pattern", ["", "/*.parquet"])
def test_files_at_a_url(folder, pattern):
    encoder = PrecomputedEncoder(path=f"file://{folder}{pattern}")
    np.testing.assert_array_equal(encoder.encode(["1"], Modality.TEXT), VECTORS[:1])


def test_files_at_a_url_of_fsspec(folder):
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").put(str(folder), "/vectors", recursive=True)
    encoder = PrecomputedEncoder(path="memory://vectors")
    np.testing.assert_array_equal(encoder.encode(["3"], Modality.TEXT), VECTORS[2:])


@pytest.mark.parametrize("options", ["", "?scheme=http&endpoint_override=127.0.0.1:9000"])
@pytest.mark.parametrize("pattern", ["", "/*.parquet", "/a.parquet", "/?.parquet"])
def test_files_of_an_object_store(folder, pattern, options, monkeypatch):
    # Like an object store, it refuses a path with an empty part.
    store = fs._MockFileSystem()
    store.create_dir("bucket/new")
    for file in folder.glob("*.parquet"):
        with store.open_output_stream(f"bucket/new/{file.name}") as target:
            target.write(file.read_bytes())

    def open_it(uri):
        path, mark, rest = uri.removeprefix("s3://").partition("?")
        assert mark + rest == options
        return store, path

    opens = SimpleNamespace(from_uri=open_it)
    arrow = SimpleNamespace(FileSystem=opens, FileSelector=fs.FileSelector, FileType=fs.FileType)
    monkeypatch.setattr(vector_files, "pafs", arrow)
    encoder = PrecomputedEncoder(path=f"s3://bucket/new{pattern}{options}")
    np.testing.assert_array_equal(encoder.encode(["1"], Modality.TEXT), VECTORS[:1])


@pytest.mark.parametrize("url", ["nowhere://x/y", "file://host/x", "s3:///"])
def test_a_url_that_cannot_be_opened(url):
    with pytest.raises(EncoderError) as caught:
        PrecomputedEncoder(path=url)
    assert caught.value.hint


def test_one_key_in_two_files(folder):
    path = folder / "d.parquet"
    close, apart = [3.01, 4.0], [3.0, 4.1]
    for vector, refused in ((close, False), (apart, True)):
        column = pa.array([vector], pa.list_(pa.float32(), 2))
        pq.write_table(pa.table({"key": ["1"], "vector": column}), path)
        encoder = PrecomputedEncoder(path=folder)
        if refused:
            with pytest.raises(EncoderError, match=r"d\.parquet has different vectors .* '1'"):
                encoder.encode(["1"], Modality.TEXT)
        else:
            np.testing.assert_array_equal(encoder.encode(["1"], Modality.TEXT), VECTORS[:1])


def test_files_may_be_added_to_a_named_model(folder):
    first, named = PrecomputedEncoder(path=folder), PrecomputedEncoder(path=folder, model="m")
    column = pa.array([VECTORS[0]], pa.list_(pa.float32(), 2))
    pq.write_table(pa.table({"key": ["9"], "vector": column}), folder / "e.parquet")
    assert PrecomputedEncoder(path=folder).fingerprint != first.fingerprint
    assert PrecomputedEncoder(path=folder, model="m").fingerprint == named.fingerprint
    assert PrecomputedEncoder(path=folder, model="n").fingerprint != named.fingerprint
