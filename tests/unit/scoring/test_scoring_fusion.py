"""The fused score is the stated formula, and its artefact survives nothing but itself."""

import json

import numpy as np
import pytest

from xbtmigrate.errors import ArtefactError
from xbtmigrate.scoring.fusion import (
    NEIGHBOURS,
    CalibratedServing,
    Fusion,
    Weights,
    hubness,
)
from xbtmigrate.types import Channel

FUSION = Fusion(
    waiting={Channel.OLD: Weights(2.0, -1.0), Channel.FORWARD: Weights(3.0)},
    encoded={Channel.NEW: Weights(5.0, -0.5), Channel.OLD: Weights(0.25)},
    offset=-0.75,
    queries=321,
    loss=1.5,
)


def test_each_point_is_scored_by_the_weights_of_its_state():
    rng = np.random.default_rng(0)
    blocks = {
        c: rng.random((3, 4)).astype(np.float32)
        for c in (Channel.OLD, Channel.FORWARD, Channel.NEW)
    }
    hubs = {c: rng.random(4).astype(np.float32) for c in (Channel.OLD, Channel.NEW)}
    encoded = np.array([True, False, False, True])
    waiting = 2 * blocks[Channel.OLD] - hubs[Channel.OLD] + 3 * blocks[Channel.FORWARD]
    done = 5 * blocks[Channel.NEW] - 0.5 * hubs[Channel.NEW] + 0.25 * blocks[Channel.OLD] - 0.75
    expected = np.where(encoded, done, waiting)
    before = {c: block.copy() for c, block in blocks.items()}
    np.testing.assert_allclose(FUSION.score(blocks, hubs, encoded), expected, rtol=1e-5)
    serving = CalibratedServing(FUSION, hubs)
    assert serving.channels == set(blocks)
    np.testing.assert_allclose(serving.score(blocks, encoded), expected, rtol=1e-5)
    for channel, block in blocks.items():
        np.testing.assert_array_equal(block, before[channel])


def test_new_scores_of_points_that_are_not_re_encoded_change_nothing():
    blocks = {c: np.ones((2, 3), np.float32) for c in (Channel.OLD, Channel.FORWARD, Channel.NEW)}
    encoded = np.array([False, True, False])
    first = FUSION.score(blocks, {}, encoded)
    blocks[Channel.NEW] = np.where(encoded, blocks[Channel.NEW], 99).astype(np.float32)
    np.testing.assert_array_equal(FUSION.score(blocks, {}, encoded), first)


def test_hubness_is_the_mean_of_the_nearest_queries_without_its_own():
    scores = np.tile(np.arange(30, dtype=np.float32), (2, 1))
    own = np.zeros((2, 30), np.bool_)
    own[1, 29] = True
    top = np.arange(30 - NEIGHBOURS, 30)
    assert hubness(scores, own).tolist() == [top.mean(), (top - 1).mean()]
    assert hubness(scores[:, :3]).tolist() == [1.5, 1.5]


def test_the_artefact_comes_back_as_it_was(tmp_path):
    FUSION.save(tmp_path)
    assert Fusion.load(tmp_path) == FUSION
    assert [path.name for path in tmp_path.iterdir()] == ["fusion.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("offset"), "damaged"),
        (lambda c: c["waiting"].update(sideways={"score": 1, "hubness": 0}), "damaged"),
        (lambda c: c.update(waiting=[1]), "damaged"),
        (lambda c: c.update(format=2), "another version"),
        (lambda c: c.update(neighbours=NEIGHBOURS + 1), "another version"),
    ],
)
def test_a_wrong_artefact_is_refused_with_a_hint(tmp_path, change, message):
    FUSION.save(tmp_path)
    content = json.loads((tmp_path / "fusion.json").read_text())
    del content["seal"]  # as a file of an earlier version has none
    change(content)
    (tmp_path / "fusion.json").write_text(json.dumps(content))
    with pytest.raises(ArtefactError, match=message) as error:
        Fusion.load(tmp_path)
    assert error.value.hint


def test_a_missing_or_cut_artefact_is_refused(tmp_path):
    with pytest.raises(ArtefactError, match="cannot be read"):
        Fusion.load(tmp_path)
    (tmp_path / "fusion.json").write_text('{"format": 1, ')
    with pytest.raises(ArtefactError, match="damaged"):
        Fusion.load(tmp_path)
