"""Vectors that were paid for are used only if their file is what was written for this model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xbtmigrate.backfill.vector_cache import VectorCache
from xbtmigrate.types import vector_array, vectors_of

HASHES = [f"{number:032x}" for number in range(20)]
VECTORS = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)


def opened(folder: Path, model: str = "model-a", dimension: int = 4) -> VectorCache:
    return VectorCache(folder, model, dimension)


def rewritten(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Store other vectors under the hashes and the metadata of a part."""
    table = pq.read_table(path)
    vectors = vector_array(change(vectors_of(table, "vector").copy()))
    changed = pa.table({"content_hash": table["content_hash"], "vector": vectors})
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), path)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    at = data.find(VECTORS[3].tobytes())
    data[at + 5] ^= 0x10
    path.write_bytes(bytes(data))


def swap_rows(path: Path) -> None:
    rewritten(path, lambda vectors: vectors[::-1])


def set_nan(path: Path) -> None:
    rewritten(path, lambda vectors: np.where(np.arange(4) == 2, np.nan, vectors))


def shorten(path: Path) -> None:
    rewritten(path, lambda vectors: vectors[:, :3])


def strip_digest(path: Path) -> None:
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)


def other_columns(path: Path) -> None:
    metadata = pq.read_schema(path).metadata
    pq.write_table(pa.table({"vector": ["a"]}).replace_schema_metadata(metadata), path)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def test_what_was_added_is_found_again(tmp_path: Path) -> None:
    opened(tmp_path).add(HASHES[:10], VECTORS[:10])
    opened(tmp_path).add(HASHES[10:], VECTORS[10:])
    vectors, found = opened(tmp_path).find([*HASHES, "f" * 32, ""])
    assert found.tolist() == [True] * 20 + [False] * 2
    np.testing.assert_array_equal(vectors[:20], VECTORS)


@pytest.mark.parametrize(
    "damage",
    [truncate, flip, swap_rows, set_nan, shorten, strip_digest, other_columns, empty],
)
def test_a_part_that_was_changed_is_set_aside(
    damage: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = opened(tmp_path)
    known.add(HASHES[:10], VECTORS[:10])
    known.add(HASHES[10:], VECTORS[10:])
    first, second = sorted(tmp_path.iterdir())
    damage(first)
    content = first.read_bytes()
    now = opened(tmp_path)
    assert now.find(HASHES)[1].tolist() == [False] * 10 + [True] * 10
    aside = first.with_name(f"{first.name}.wrong")
    assert sorted(tmp_path.iterdir()) == [aside, second]
    assert aside.read_bytes() == content
    assert str(first) in caplog.text
    assert aside.name in caplog.text
    now.add(HASHES[:10], VECTORS[:10])
    assert len(list(tmp_path.iterdir())) == 3, "no part takes the place of another"
    np.testing.assert_array_equal(opened(tmp_path).find(HASHES)[0], VECTORS)


def test_a_part_of_another_model_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened(tmp_path, "model-b").add(HASHES, VECTORS)
    assert len(opened(tmp_path)) == 0
    assert "another model" in caplog.text


def test_a_later_vector_of_the_same_content_counts(tmp_path: Path) -> None:
    opened(tmp_path).add(HASHES, VECTORS)
    known = opened(tmp_path)
    known.add(HASHES[:5], -VECTORS[:5])
    expected = np.concatenate([-VECTORS[:5], VECTORS[5:]])
    np.testing.assert_array_equal(known.find(HASHES)[0], expected)
    np.testing.assert_array_equal(opened(tmp_path).find(HASHES)[0], expected)


def test_vectors_that_are_no_numbers_are_not_kept(tmp_path: Path) -> None:
    rows = VECTORS[:4].copy()
    rows[1], rows[2] = np.nan, 0
    opened(tmp_path).add(HASHES[:4], rows)
    assert opened(tmp_path).find(HASHES[:4])[1].tolist() == [True, False, False, True]
