"""The mixed gallery, its servings and the summaries of a backfilling curve."""

import dataclasses

import numpy as np
import pytest

from xbtmigrate.errors import EvaluationError
from xbtmigrate.evaluation import retrieval
from xbtmigrate.evaluation.answer_ranks import evaluate
from xbtmigrate.evaluation.curves import Curve, measure_curves
from xbtmigrate.evaluation.mixed_gallery import (
    Centred,
    Keep,
    Merge,
    Single,
    in_step,
    mark_encoded,
)
from xbtmigrate.evaluation.retrieval import METRICS, QueryScores, Relevance, SearchSpace
from xbtmigrate.types import Channel, normalized

COUNT = 120


@pytest.fixture
def spaces():
    """The new model sees the items almost clearly, the old and the projected one dimly."""
    rng = np.random.default_rng(0)
    items = rng.standard_normal((COUNT, 16)).astype(np.float32)

    def space(noise):
        query, gallery = (
            items + noise * rng.standard_normal(items.shape).astype(np.float32) for _ in range(2)
        )
        return SearchSpace(query, gallery)

    return {Channel.OLD: space(1.2), Channel.FORWARD: space(1.5), Channel.NEW: space(0.4)}


@pytest.fixture
def relevance():
    return Relevance.from_rows([[row] for row in range(COUNT)])


def curve_of(values, ordering="random", serving="single"):
    points = [QueryScores({name: np.full(10, value) for name in METRICS}) for value in values]
    fractions = tuple(np.linspace(0, 1, len(values)).tolist())
    return Curve(ordering, serving, fractions, tuple(points))


def test_a_fraction_marks_the_head_of_the_order():
    order = np.array([3, 0, 4, 1, 2])
    assert np.flatnonzero(mark_encoded(order, 0.4)).tolist() == [0, 3]
    assert not mark_encoded(order, 0.0).any()
    assert mark_encoded(order, 1.0).all()


def test_rows_spent_on_training_pairs_are_spread_over_an_order():
    assert in_step(np.array([3, 0, 4, 1, 2]), np.array([4, 2])).tolist() == [3, 4, 0, 2, 1]


def test_the_ends_of_a_curve_are_the_pure_cells(spaces, relevance):
    order = np.random.default_rng(1).permutation(COUNT)
    cells = {channel: evaluate(space, relevance).means for channel, space in spaces.items()}
    ends = {Single(): Channel.FORWARD, Merge(): Channel.OLD, Keep(): Channel.OLD}
    for serving, start in ends.items():
        (curve,) = measure_curves(spaces, relevance, orders={"random": order}, servings=[serving])
        assert (curve.ordering, curve.serving) == ("random", serving.name)
        assert curve.points[0].means == cells[start]
        assert curve.points[-1].means == cells[Channel.OLD if serving.name == "keep" else "new"]


def test_a_point_in_the_middle_is_the_search_of_the_mixed_vectors(spaces, relevance):
    order = np.random.default_rng(2).permutation(COUNT)
    new, forward = spaces[Channel.NEW], spaces[Channel.FORWARD]
    shared = {
        Channel.NEW: new,
        Channel.FORWARD: SearchSpace(new.query, forward.gallery),
    }
    (curve,) = measure_curves(shared, relevance, orders={"r": order}, servings=[Single()])
    mixed = np.where(mark_encoded(order, 0.3)[:, None], new.gallery, forward.gallery)
    assert curve.points[3].means == evaluate(SearchSpace(new.query, mixed), relevance).means


def test_all_pairs_are_measured_at_once_and_chunks_change_nothing(spaces, relevance, monkeypatch):
    orders = {"up": np.arange(COUNT), "down": np.arange(COUNT)[::-1]}
    whole = measure_curves(spaces, relevance, orders=orders, servings=[Single(), Merge()])
    monkeypatch.setattr(retrieval, "BLOCK_BYTES", 4 * COUNT * 11)
    parts = measure_curves(spaces, relevance, orders=orders, servings=[Single(), Merge()])
    assert [(c.ordering, c.serving) for c in whole] == [
        ("up", "single"),
        ("up", "merge"),
        ("down", "single"),
        ("down", "merge"),
    ]
    assert [c.values("mrr@10") for c in whole] == [c.values("mrr@10") for c in parts]


def test_centred_queries_are_those_that_a_searcher_sends():
    """Also in the middle, where the strength is between two that were fitted."""
    rng = np.random.default_rng(3)
    queries, projected, new = (
        normalized(rng.standard_normal((COUNT, 8)).astype(np.float32) + 1) for _ in range(3)
    )
    mean = normalized(new.mean(axis=0, keepdims=True))[0]
    strengths = np.tile(np.linspace(0, 1, 11, dtype=np.float32), (COUNT, 1))
    along = {Channel.FORWARD: projected @ mean, Channel.NEW: new @ mean}
    serving = Centred(queries @ mean, strengths, along)
    spaces = {
        Channel.FORWARD: SearchSpace(queries, projected),
        Channel.NEW: SearchSpace(queries, new),
    }
    relevance, order = Relevance.from_rows(np.arange(COUNT)[:, None]), rng.permutation(COUNT)
    fractions = (0.25, 0.5, 0.75)
    [curve] = measure_curves(
        spaces, relevance, orders={"any": order}, servings=[serving], fractions=fractions
    )
    for share, found in zip(fractions, curve.values("mrr@10"), strict=True):
        gallery = np.where(mark_encoded(order, share)[:, None], new, projected)
        asked = SearchSpace(queries - share * np.outer(queries @ mean, mean), gallery)
        assert found == pytest.approx(evaluate(asked, relevance).means["mrr@10"], abs=1e-6)


def test_the_summaries_of_a_curve():
    curve = curve_of([0.2, 0.4, 0.5, 0.8])
    full = QueryScores({name: np.full(10, 0.8) for name in METRICS})
    assert curve.auc() == pytest.approx(0.475)
    assert curve.smallest_fraction(0.45) == pytest.approx(0.5)
    assert curve.smallest_fraction(0.1) == 0.0
    assert curve.smallest_fraction(0.9) is None
    assert curve.fractions_to_full(full)[0.90] == pytest.approx(2 / 3 + (0.72 - 0.5) / 0.3 / 3)


def test_regret_is_seen_in_the_middle_too():
    keep = QueryScores({name: np.full(10, 0.3) for name in METRICS})
    assert curve_of([0.3, 0.4, 0.8]).no_regret(keep)
    assert not curve_of([0.35, 0.29, 0.8]).no_regret(keep)


def test_the_crossover_has_an_interval_over_the_queries():
    keep = QueryScores({name: np.full(10, 0.3) for name in METRICS})
    assert curve_of([0.2, 0.4, 0.8]).crossover_interval(keep, seed=0) == (0.5, 0.5)
    assert curve_of([0.1, 0.2, 0.25]).crossover_interval(keep, seed=0) == (None, None)
    hits = np.array([1.0] * 6 + [0.0] * 4)
    spread = QueryScores(dict.fromkeys(METRICS, hits))
    even = QueryScores({name: np.full(10, 0.5) for name in METRICS})
    low, high = dataclasses.replace(
        curve_of([0.5, 0.5]), points=(spread, QueryScores(dict.fromkeys(METRICS, hits + 1)))
    ).crossover_interval(even, seed=0)
    assert (low, high) == (0.0, 1.0)


def test_inputs_that_do_not_fit_are_refused(spaces, relevance):
    order = np.arange(COUNT)
    with pytest.raises(EvaluationError, match="differ in"):
        measure_curves(spaces, relevance, orders={"r": order[:-1]}, servings=[Single()])
    with pytest.raises(EvaluationError, match="twice"):
        measure_curves(spaces, relevance, orders={"r": order * 0}, servings=[Single()])
    with pytest.raises(EvaluationError, match="equally spaced"):
        measure_curves(
            spaces, relevance, orders={"r": order}, servings=[Single()], fractions=[0, 0.1, 1]
        )
