"""Equal contents are grouped, and the vectors of the latest are remembered in bounded memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np

from xbtmigrate.backfill.equal_contents import RecentVectors, find_distinct
from xbtmigrate.backfill.vector_cache import VectorCache
from xbtmigrate.testing.encoders import FakeEncoder
from xbtmigrate.types import Modality, content_hash
from xbtmigrate.workflows.encode_points import encode_gallery
from xbtmigrate.workflows.points import Points


def test_groups_in_the_order_of_their_first_rows():
    firsts, places = find_distinct(["b", "a", "b", "c", "a"])
    assert firsts == [0, 1, 3]
    assert places.tolist() == [0, 1, 0, 2, 1]
    firsts, places = find_distinct([])
    assert (firsts, len(places)) == ([], 0)


def test_what_was_used_longest_ago_is_forgotten_first():
    recent = RecentVectors(2, max_bytes=3 * 2 * 4)
    recent.add(["a", "b", "c"], np.arange(6, dtype=np.float32).reshape(3, 2))
    recent.find(["a"])
    recent.add(["d"], np.ones((1, 2), np.float32))
    vectors, found = recent.find(["a", "b", "c", "d"])
    assert found.tolist() == [True, False, True, True]
    assert vectors.tolist() == [[0, 1], [0, 0], [4, 5], [1, 1]]


def test_memory_stays_within_its_bound():
    limit, block = 2**20, np.ones((500, 256), np.float32)
    recent = RecentVectors(256, max_bytes=limit)
    tracemalloc.start()
    for number in range(40):
        recent.add([f"{number}-{row}" for row in range(len(block))], block)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2 * limit


def test_a_sample_is_embedded_once_by_text_and_every_point_gets_its_vector(tmp_path: Path):
    texts = [f"text {row % 7}" if row % 11 else None for row in range(3000)]
    encoder = FakeEncoder(dimension=4, failing=["text 3"])
    points = Points(
        ids=[str(row) for row in range(3000)],
        texts=texts,
        images=[None] * 3000,
        hashes=[content_hash(text) for text in texts],
        old=np.ones((3000, 2), np.float32),
    )
    cache = VectorCache(tmp_path, encoder.fingerprint, 4)
    vectors, done = encode_gallery(encoder, cache, points, Modality.TEXT)
    assert sorted(encoder.encoded) == [f"text {each}" for each in range(7) if each != 3]
    assert done.tolist() == [text is not None and text != "text 3" for text in texts]
    rows = np.flatnonzero(done)
    known = FakeEncoder(dimension=4).encode([str(texts[row]) for row in rows], Modality.TEXT)
    np.testing.assert_array_equal(vectors[rows], known)
    assert not vectors[~done].any()
