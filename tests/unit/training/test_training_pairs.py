"""Pairs on disk."""

import dataclasses

import numpy as np
import pytest

from xbtmigrate.errors import ArtefactError, TrainingError
from xbtmigrate.training import Pairs, PairSource, load_pairs, pairs_digest, save_pairs


def make(count, source, seed=0):
    rng = np.random.default_rng(seed)
    old, new = (rng.standard_normal((count, d)).astype(np.float32) for d in (3, 5))
    return Pairs([f"{i}" for i in range(count)], ["h"] * count, old, new, source)


def test_several_sources_come_back_from_one_file(tmp_path):
    groups = [make(4, PairSource.TEXT), make(3, PairSource.CAPTION_IMAGE, seed=1)]
    save_pairs(tmp_path / "deep" / "pairs.parquet", groups)
    loaded = load_pairs(tmp_path / "deep" / "pairs.parquet")
    assert [(g.source, list(g.ids)) for g in loaded] == [(g.source, g.ids) for g in groups]
    np.testing.assert_array_equal(loaded[1].old, groups[1].old)
    np.testing.assert_array_equal(loaded[1].new, groups[1].new)
    assert pairs_digest(loaded) == pairs_digest(groups)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["pairs.parquet"]


def test_the_digest_sees_every_part():
    whole = make(4, PairSource.TEXT)
    others = [
        make(4, PairSource.TEXT, seed=1),
        make(3, PairSource.TEXT),
        make(4, PairSource.IMAGE),
        Pairs(whole.ids, ["x"] * 4, whole.old, whole.new, whole.source),
    ]
    digests = {pairs_digest([group]) for group in [whole, *others]}
    assert len(digests) == 5


def test_side_vectors_come_back_and_count(tmp_path):
    plain = make(4, PairSource.TEXT)
    side = np.random.default_rng(1).standard_normal((4, 2)).astype(np.float32)
    whole = dataclasses.replace(plain, side=side)
    save_pairs(tmp_path / "pairs.parquet", [whole])
    (loaded,) = load_pairs(tmp_path / "pairs.parquet")
    np.testing.assert_array_equal(loaded.side, side)
    others = [plain, dataclasses.replace(whole, side=-side)]
    assert len({pairs_digest([group]) for group in [whole, loaded, *others]}) == 3
    with pytest.raises(TrainingError, match="4 ids"):
        dataclasses.replace(plain, side=side[:3])


def test_columns_of_different_length_are_refused():
    whole = make(4, PairSource.TEXT)
    with pytest.raises(TrainingError, match="4 ids"):
        Pairs(whole.ids, whole.content_hashes, whole.old, whole.new[:3], PairSource.TEXT)


@pytest.mark.parametrize("content", [None, b"not parquet"])
def test_unreadable_file(tmp_path, content):
    path = tmp_path / "pairs.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtefactError, match="cannot be read"):
        load_pairs(path)
