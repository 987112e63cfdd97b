"""The fit finds known weights, and a fused gallery is worth more than its channels."""

import numpy as np
import pytest

from xbtmigrate.errors import TrainingError
from xbtmigrate.evaluation.comparison import compare
from xbtmigrate.evaluation.curves import measure_curves
from xbtmigrate.evaluation.mixed_gallery import Keep, Merge
from xbtmigrate.evaluation.retrieval import Relevance, SearchSpace
from xbtmigrate.scoring import conditional_logit as logit
from xbtmigrate.scoring.conditional_logit import CalibrationSet, calibrate, conditional_logit
from xbtmigrate.scoring.fusion import CalibratedServing, hubness
from xbtmigrate.types import Channel

POINTS = 800


def chosen_first(features, weights, rng):
    """Let candidates be chosen with the probabilities of the model; the chosen one goes first."""
    utility = features @ weights + rng.gumbel(size=features.shape[:2])
    order = np.argsort(-utility, axis=1)
    return np.take_along_axis(features, order[:, :, None], axis=1)


def test_known_weights_are_found():
    rng = np.random.default_rng(0)
    weights = np.array([3.0, -1.0, 0.0])
    features = rng.standard_normal((4000, 30, 3)).astype(np.float32)
    found, loss = conditional_logit(chosen_first(features, weights, rng), np.zeros((4000, 30)))
    np.testing.assert_allclose(found, weights, atol=0.12)
    assert loss < np.log(30)


def test_hard_and_random_negatives_give_the_weights_of_the_whole_gallery(monkeypatch):
    """Most answers are not near the top, so hard negatives alone would mislead."""
    monkeypatch.setattr(logit, "HARD", 10)
    monkeypatch.setattr(logit, "RANDOM", 40)
    rng = np.random.default_rng(1)
    block = rng.standard_normal((3000, 400)).astype(np.float32)
    row = np.argmax(1.5 * block + rng.gumbel(size=block.shape), axis=1)
    sample = CalibrationSet({Channel.OLD: block}, np.arange(3000), row)
    columns, offsets = logit._candidates(sample, [Channel.OLD], rng)
    features = np.take_along_axis(block, columns, axis=1)[:, :, None]
    (found,), _ = conditional_logit(features, offsets)
    (unweighted,), _ = conditional_logit(features, np.where(offsets < 0, offsets, 0.0))
    assert found == pytest.approx(1.5, abs=0.1)
    assert abs(unweighted - 1.5) > 0.5


def test_a_feature_without_spread_gets_no_weight_and_breaks_nothing():
    rng = np.random.default_rng(2)
    features = rng.standard_normal((500, 10, 2)).astype(np.float32)
    features[:, :, 1] = 1.0
    found, _ = conditional_logit(
        chosen_first(features, np.array([2.0, 0.0]), rng), np.zeros((500, 10))
    )
    assert found[0] == pytest.approx(2.0, abs=0.3)
    assert found[1] == pytest.approx(0.0, abs=1e-6)


def noisy_spaces(seed, queries):
    """Items seen by three systems with noise of their own; some points are near to everything."""
    rng = np.random.default_rng(seed)
    items = rng.standard_normal((POINTS, 24)).astype(np.float32)
    everything = items[:queries].mean(axis=0) + 0.4
    pull = rng.exponential(0.7, (POINTS, 1)).astype(np.float32)

    def space(noise):
        query, gallery = (
            items + noise * rng.standard_normal(items.shape).astype(np.float32) for _ in range(2)
        )
        return SearchSpace(query[:queries] + 1.5 * everything, gallery + pull * everything)

    return {Channel.OLD: space(1.0), Channel.FORWARD: space(1.2), Channel.NEW: space(0.5)}


def answers(count):
    return np.arange(count), np.arange(count)


@pytest.fixture(scope="module")
def measured():
    """Weights from queries 0-199, hubness from 200-399, quality on queries 400-799."""
    spaces = noisy_spaces(3, POINTS)
    query, row = answers(200)
    hubs = {}
    for channel, space in spaces.items():
        own = np.zeros((POINTS, 200), np.bool_)
        own[np.arange(200, 400), np.arange(200)] = True
        hubs[channel] = hubness(SearchSpace(space.gallery, space.query[200:400]).score(), own)
    fitting = {c: s.score(slice(0, 200)) for c, s in spaces.items()}
    test = {c: SearchSpace(s.query[400:], s.gallery) for c, s in spaces.items()}
    relevance = Relevance.from_rows([[row] for row in range(400, POINTS)])
    servings = [
        Keep(),
        Merge(),
        CalibratedServing(calibrate(CalibrationSet(fitting, query, row)), {}, "plain"),
        CalibratedServing(calibrate(CalibrationSet(fitting, query, row, hubs)), hubs, "hubness"),
    ]
    order = {"random": np.random.default_rng(0).permutation(POINTS)}
    curves = measure_curves(test, relevance, orders=order, servings=servings)
    return {curve.serving: curve for curve in curves}


def test_fusion_beats_keep_with_nothing_re_encoded(measured):
    keep, full = measured["keep"].points[0], measured["merge"].points[-1]
    for name in ("plain", "hubness"):
        start = compare(measured[name].points[0], keep, full, seed=0)
        assert start.beats_keep("recall@10", level=0.01), name
        assert start.beats_keep("mrr@10", level=0.01), name


def test_a_fused_gallery_has_no_regret_and_beats_raw_merging(measured):
    keep = measured["keep"].points[0]
    assert measured["plain"].no_regret(keep)
    assert measured["hubness"].no_regret(keep)
    assert measured["plain"].auc() > measured["merge"].auc()


def test_removing_hubness_helps_where_points_are_near_to_everything(measured):
    assert measured["hubness"].auc() > measured["plain"].auc() + 0.01


def test_equal_seeds_give_equal_fusions_and_the_number_of_queries_is_told():
    space = noisy_spaces(4, 60)
    query, row = answers(60)
    sample = CalibrationSet({c: s.score() for c, s in space.items()}, query, row)
    first = calibrate(sample, seed=1)
    assert first == calibrate(sample, seed=1)
    assert first != calibrate(sample, seed=2)
    assert first.queries == 60


def test_the_channels_are_the_callers_choice():
    space = noisy_spaces(5, 60)
    query, row = answers(60)
    sample = CalibrationSet({c: s.score() for c, s in space.items()}, query, row)
    fusion = calibrate(sample, waiting=[Channel.OLD], encoded=[Channel.NEW])
    assert (set(fusion.waiting), set(fusion.encoded)) == ({Channel.OLD}, {Channel.NEW})
    assert fusion.waiting[Channel.OLD].score > 0


def test_other_answers_of_a_query_are_no_negatives(monkeypatch):
    """Queries with two answers: each pair competes with every point but the other answer."""
    monkeypatch.setattr(logit, "HARD", 5)
    blocks = {Channel.OLD: np.random.default_rng(6).random((30, 40)).astype(np.float32)}
    query, row = np.repeat(np.arange(30), 2), np.tile([3, 9], 30)
    columns, offsets = logit._candidates(
        CalibrationSet(blocks, query, row), [Channel.OLD], np.random.default_rng(0)
    )
    usable = offsets > logit.EXCLUDED
    other = np.where(row == 3, 9, 3)
    assert not (usable & (columns == other[:, None])).any()
    assert (columns[:, 0] == row).all()
    assert usable[:, 0].all()
    stood_for = np.where(usable, np.exp(np.where(usable, offsets, 0)), 0).sum(axis=1)
    np.testing.assert_allclose(stood_for, 39)


def test_too_few_queries_are_refused():
    query, row = answers(5)
    with pytest.raises(TrainingError, match="too few") as error:
        calibrate(CalibrationSet({Channel.OLD: np.ones((5, 9), np.float32)}, query, row))
    assert error.value.hint
