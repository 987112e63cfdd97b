"""What each order prefers, and how scores become a ranking."""

import numpy as np
import pytest

from xbtmigrate.errors import PluginError
from xbtmigrate.ordering import (
    CentroidOrdering,
    DemandOrdering,
    RandomOrdering,
    UncertaintyOrdering,
    rank,
    score_points,
)
from xbtmigrate.projectors import Affine, Manifest, ProcessVariance, Projector
from xbtmigrate.types import Direction, Distance

NO_VECTORS = np.zeros((0, 0), np.float32)


class LengthProjector:
    def __init__(self, direction=Direction.FORWARD):
        self.direction = direction

    def apply(self, vectors):
        return vectors

    def uncertainty(self, vectors):
        return np.linalg.norm(vectors, axis=1).astype(np.float32)


def test_random_scores_are_uniform_and_follow_the_seed():
    ids = [str(number) for number in range(20_000)]
    scores = RandomOrdering(seed=0).score(ids, NO_VECTORS)
    counts, _ = np.histogram(scores, bins=10, range=(0, 1))
    assert counts.min() > 1850
    assert abs(np.corrcoef(scores, np.arange(20_000))[0, 1]) < 0.02
    assert abs(np.corrcoef(scores, RandomOrdering(seed=1).score(ids, NO_VECTORS))[0, 1]) < 0.02


def test_the_random_order_is_frozen_for_ever():
    """A resumed migration must meet the order it began with, in any later version."""
    ids = [*"abcdef", "4f0e7a38-6e0f-4a4c-9f4b-6a6b6a0f9d10"]
    order = rank(ids, RandomOrdering(seed=7).score(ids, NO_VECTORS))
    assert order.tolist() == [5, 6, 3, 0, 4, 2, 1]


def test_uncertainty_asks_the_projector():
    old = np.array([[1, 0], [3, 0], [2, 0]], np.float32)
    ordering = UncertaintyOrdering(projector=LengthProjector())
    assert rank(["a", "b", "c"], ordering.score(["a", "b", "c"], old)).tolist() == [1, 2, 0]


def test_uncertainty_of_a_query_projector_is_refused():
    with pytest.raises(PluginError, match="needs a forward projector") as error:
        UncertaintyOrdering(projector=LengthProjector(Direction.BRIDGE))
    assert error.value.hint


def test_centroid_prefers_points_outside_the_clusters():
    rng = np.random.default_rng(0)
    centres = 10 * rng.standard_normal((5, 6))
    old = np.repeat(centres, 40, axis=0) + 0.1 * rng.standard_normal((200, 6))
    outsiders = [17, 60, 133]
    old[outsiders] += 3
    ids = [str(row) for row in range(200)]
    scores = CentroidOrdering(seed=0, clusters=20).score(ids, old.astype(np.float32))
    assert set(rank(ids, scores)[:3].tolist()) == set(outsiders)


def test_points_without_an_old_vector_are_scored_nan_and_re_encoded_first():
    old = np.random.default_rng(1).standard_normal((10, 3)).astype(np.float32)
    old[4] = np.nan
    ids = [str(row) for row in range(10)]
    scores = CentroidOrdering(clusters=3).score(ids, old)
    assert np.isnan(scores[4])
    assert np.isfinite(np.delete(scores, 4)).all()
    assert rank(ids, scores)[0] == 4


def test_equal_scores_go_by_id_whatever_order_they_came_in():
    ids, scores = ["b", "c", "a", "d"], np.array([1, 2, 1, 0], np.float32)
    assert [ids[at] for at in rank(ids, scores)] == ["c", "a", "b", "d"]
    again = ["a", "d", "b", "c"]
    order = rank(again, np.array([1, 0, 1, 2], np.float32))
    assert [again[at] for at in order] == ["c", "a", "b", "d"]


def test_uncertainty_goes_by_side_vectors_where_the_estimate_takes_them():
    scale = np.ones(3, np.float32)
    error = ProcessVariance(
        scale, np.zeros((1, 3), np.float32), np.ones((1, 1), np.float32), scale[:1]
    )
    facts = Manifest(Direction.FORWARD, "test", 2, 2, Distance.DOT, Distance.DOT, d_side=1)
    weights = Affine(np.zeros((3, 2), np.float32), np.zeros(2, np.float32))
    ordering = UncertaintyOrdering(projector=Projector(facts, weights, error))
    ids, old = ["a", "b"], np.zeros((2, 2), np.float32)
    side = np.float32([[0.1], [2]])
    for each in (ordering, DemandOrdering(demand={"c": 1}, otherwise=ordering)):
        near, far = score_points(each, ids, old, side)
        assert near < far
    random = RandomOrdering()
    np.testing.assert_array_equal(score_points(random, ids, old, side), random.score(ids, old))
