"""Files of the tool and of others: what is damaged, swapped or of another shape is named."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from xbtmigrate.errors import ArtefactError, ConfigError
from xbtmigrate.files import UNSEALED, check_seal, parse, read_json, write_atomically, write_json
from xbtmigrate.tables import VECTORS, read_parquet, write_parquet
from xbtmigrate.types import vector_array

COLUMNS = {"id": pa.string(), "vector": VECTORS}
HINT = "make it again"
ROWS = 300


@dataclass(frozen=True)
class Form:
    """What a JSON file has to hold."""

    name: str
    count: int = 0


def table() -> pa.Table:
    vectors = np.random.default_rng(0).standard_normal((ROWS, 4)).astype(np.float32)
    ids = pa.array(map(str, range(ROWS)), pa.string())
    return pa.table({"id": ids, "vector": vector_array(vectors)}, metadata={"fact": "1.5"})


def read_table(path: Path) -> pa.Table:
    return read_parquet(path, COLUMNS, HINT)


def read_form(path: Path) -> Form:
    return read_json(path, Form, HINT)


KINDS: dict[str, tuple[Callable[[Path], object], Callable[[Path], Any]]] = {
    "a.parquet": (lambda path: write_parquet(path, table()), read_table),
    "a.json": (lambda path: write_json(path, {"name": "a", "count": 3}), read_form),
    "a.safetensors": (
        lambda path: write_atomically(
            path, lambda to: save_file({"w": np.ones(500, np.float32)}, to, UNSEALED)
        ),
        lambda path: check_seal(path, HINT),
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_what_is_whole_comes_back(tmp_path, name):
    write, read = KINDS[name]
    write(tmp_path / name)
    found = read(tmp_path / name)
    if isinstance(found, pa.Table):
        assert found.equals(table())
        assert found.schema.metadata[b"fact"] == b"1.5"
        assert pq.read_table(tmp_path / name).num_rows == ROWS
    assert found is None or found in (Form("a", 3), table())


@pytest.mark.parametrize("name", KINDS)
def test_no_flipped_bit_is_taken_for_true(tmp_path, name):
    write, read = KINDS[name]
    path = tmp_path / name
    write(path)
    content = path.read_bytes()
    whole = read(path)
    for place in np.random.default_rng(1).choice(len(content), 300).tolist():
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        found, said = whole, f"{path} with {HINT}"
        try:
            found = read(path)  # the flip may be in the label of the seal
        except ArtefactError as error:
            said = f"{error.message} with {error.hint}"
        assert found == whole
        assert said.startswith(f"{path} ")
        assert said.endswith(f" with {HINT}")


@pytest.mark.parametrize("name", KINDS)
def test_a_cut_or_foreign_file_is_refused(tmp_path, name):
    write, read = KINDS[name]
    path = tmp_path / name
    write(path)
    content = path.read_bytes()
    path.rename(tmp_path / f"b{name[1:]}")
    with pytest.raises(ArtefactError, match="changed or moved"):
        read(tmp_path / f"b{name[1:]}")
    if name.endswith("safetensors"):  # its reader refuses what is cut
        return
    for length in (0, 1, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        if name.endswith("json") and length == len(content) - 1:
            continue  # only the line's end is gone
        with pytest.raises(ArtefactError) as caught:
            read(path)
        assert str(path) in caught.value.message
    path.unlink()
    with pytest.raises(FileNotFoundError):
        read(path)


SHAPES: dict[str, pa.Table] = {
    "no column": pa.table({"id": ["a"]}),
    "a column twice": pa.Table.from_arrays(
        [pa.array(["a"]), pa.array(["b"]), vector_array(np.ones((1, 2)))], ["id", "id", "vector"]
    ),
    "numbers for vectors": pa.table({"id": ["a"], "vector": [1.0]}),
    "lists for vectors": pa.table({"id": ["a"], "vector": [[1.0, 2.0]]}),
    "vectors of whole numbers": pa.table(
        {"id": ["a"], "vector": pa.array([[1, 2]], pa.list_(pa.int32(), 2))}
    ),
    "an empty vector": pa.table(
        {"id": ["a"], "vector": pa.array([None], pa.list_(pa.float32(), 2))}
    ),
    "an empty place": pa.table(
        {"id": ["a"], "vector": pa.array([[1.0, None]], pa.list_(pa.float32(), 2))}
    ),
    "an empty id": pa.table(
        {"id": pa.array([None], pa.string()), "vector": vector_array(np.ones((1, 2)))}
    ),
    "a list for an id": pa.table({"id": [["a"]], "vector": vector_array(np.ones((1, 2)))}),
    "bytes that are no text": pa.table(
        {"id": pa.array([b"\xff"], pa.binary()), "vector": vector_array(np.ones((1, 2)))}
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_a_parquet_file_of_another_shape_is_refused(tmp_path, shape):
    path = tmp_path / "foreign.parquet"
    pq.write_table(SHAPES[shape], path)
    with pytest.raises(ConfigError, match=r"foreign\.parquet cannot be read") as caught:
        read_parquet(path, COLUMNS, HINT, error=ConfigError)
    assert "\n" not in caught.value.message


def test_optional_columns_may_be_missing_or_empty(tmp_path):
    path = tmp_path / "a.parquet"
    write_parquet(path, pa.table({"id": ["a"], "label": pa.array([None], pa.string())}))
    ids, label = {"id": pa.string()}, {"label": pa.string(), "side": VECTORS}
    assert read_parquet(path, ids, HINT, optional=label).column_names == ["id", "label"]
    assert read_parquet(path, ids, HINT).column_names == ["id"]


@pytest.mark.parametrize(
    "text",
    ["", "[", "[1]", "null", '{"name": 3}', '{"count": 1}', '{"name": "a", "count": "x"}',
     '{"name": ' + "[" * 100_000, '{"a":' * 100_000, '{"name": "\\ud800"}', "\ufeff{}",
     '{"name": "a", "count": 1' + "0" * 5_000 + "}"],
)  # fmt: skip
def test_json_of_another_form_is_refused(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text, "utf-8")
    with pytest.raises(ArtefactError, match=r"a\.json is damaged") as caught:
        read_form(path)
    assert len(caught.value.message) < len(str(path)) + 300


def test_a_record_is_checked_as_a_file_is():
    assert parse({"name": "a", "more": 1}, Form, "the journal", HINT) == Form("a")
    with pytest.raises(ArtefactError, match="the journal is damaged: count: "):
        parse({"name": "a", "count": []}, Form, "the journal", HINT)


def test_a_file_of_an_earlier_version_has_no_seal(tmp_path):
    pq.write_table(table(), tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet").num_rows == ROWS
    (tmp_path / "a.json").write_text(json.dumps({"name": "a"}))
    assert read_form(tmp_path / "a.json") == Form("a")


def test_other_users_can_read_a_file_where_the_umask_lets_them(tmp_path):
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "a.json", {"name": "a"})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [tmp_path / "a.json"]


def test_the_folder_is_flushed_after_the_rename(tmp_path, monkeypatch):
    flushed = []

    def fsync(descriptor: int) -> None:
        whole = (tmp_path / "a.json").exists()
        flushed.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), whole))

    monkeypatch.setattr(os, "fsync", fsync)
    write_json(tmp_path / "a.json", {"name": "a"})
    assert flushed == [(False, False), (True, True)]
