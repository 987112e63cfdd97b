"""An order sorted on disk is the order sorted in memory, read whole or in slices."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from xbtmigrate.backfill import order_file
from xbtmigrate.backfill.order_file import OrderedIds, make_sortable, write_sorted
from xbtmigrate.ordering import rank


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("RUN", 100), ("BLOCK", 7), ("GROUP", 64)):
        monkeypatch.setattr(order_file, name, size)


def batches(
    ids: list[str], scores: np.ndarray, paid: np.ndarray, size: int = 9
) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(ids), size):
        part = slice(start, start + size)
        yield make_sortable(ids[part], scores[part], paid[part])


@pytest.mark.parametrize("distinct", [1, 3, 10_000])
def test_it_is_the_order_that_memory_would_give(tmp_path: Path, distinct: int) -> None:
    rng = np.random.default_rng(distinct)
    ids = [str(each) for each in rng.permutation(1003)]
    scores = rng.choice(rng.standard_normal(distinct), 1003).astype(np.float32)
    scores[::50] = np.nan
    scores[7::50] = -0.0
    nothing = np.zeros(1003, np.bool_)
    write_sorted(tmp_path / "order", batches(ids, scores, nothing), "mine")
    found = OrderedIds.open(tmp_path / "order")
    assert list(found) == [ids[row] for row in rank(ids, scores + np.float32(0))]
    assert [path.name for path in tmp_path.iterdir()] == ["order"]


def test_what_is_paid_for_comes_first_by_score_too(tmp_path: Path) -> None:
    ids, scores = ["a", "b", "c", "d"], np.array([1, np.nan, -5, -4], np.float32)
    paid = np.array([False, False, True, True])
    write_sorted(tmp_path / "order", batches(ids, scores, paid), "mine")
    assert list(OrderedIds.open(tmp_path / "order")) == ["d", "c", "b", "a"]


def test_tenants_come_in_their_places_and_scores_decide_within_them(tmp_path: Path) -> None:
    ids, scores = ["a", "b", "c", "d", "e"], np.array([1, 9, 2, np.nan, 7], np.float32)
    paid = np.array([False, False, False, False, True])
    places = np.array([0, order_file.LAST, 0, 1, order_file.LAST])
    found = [make_sortable(ids, scores, paid, places)]
    write_sorted(tmp_path / "order", found, "mine", "traffic")
    opened = OrderedIds.open(tmp_path / "order")
    assert list(opened) == ["e", "c", "a", "d", "b"]
    assert (opened.name, opened.tenants) == ("mine", "traffic")


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 128, 200])
def test_slices_of_slices_read_the_same_ids(tmp_path: Path, count: int) -> None:
    ids = [f"{each:04d}" for each in range(count)]
    scores = -np.arange(count, dtype=np.float32)
    write_sorted(tmp_path / "order", batches(ids, scores, np.zeros(count, np.bool_)), "mine")
    found = OrderedIds.open(tmp_path / "order")
    assert len(found) == count
    assert list(found) == ids
    assert list(found[50:][10:30]) == ids[50:][10:30]
    assert [found[place] for place in range(-count, 0)] == ids
    assert found.chunk(60, 70) == found[50:].chunk(10, 20) == ids[60:70]
    assert found.chunk(0, count + 1) == ids
    text = "".join(f"{each}\n" for each in ids)
    assert found.digest() == hashlib.sha256(text.encode()).hexdigest()
    with pytest.raises(IndexError):
        found[count]
