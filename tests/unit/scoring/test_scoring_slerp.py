"""A blended query lies on the arc between the two, and validation chooses where."""

import numpy as np
import pytest

from xbtmigrate.evaluation.answer_ranks import evaluate
from xbtmigrate.evaluation.retrieval import Relevance, SearchSpace
from xbtmigrate.scoring.slerp import ALPHAS, SlerpServing, choose_alpha, slerp
from xbtmigrate.types import Channel


def test_the_blend_walks_the_arc_at_constant_speed():
    u, v = np.array([[2.0, 0.0]], np.float32), np.array([[0.0, 0.5]], np.float32)
    for alpha in ALPHAS:
        angle = alpha * np.pi / 2
        np.testing.assert_allclose(slerp(u, v, alpha), [[np.cos(angle), np.sin(angle)]], atol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_equal_directions_stay(alpha):
    u = np.array([[0.6, 0.8]], np.float32)
    np.testing.assert_allclose(slerp(u, 3 * u, alpha), u, atol=1e-6)


def test_validation_finds_a_blend_better_than_either_query():
    rng = np.random.default_rng(0)
    gallery = rng.standard_normal((300, 16)).astype(np.float32)
    old, bridged = (
        gallery + 1.6 * rng.standard_normal(gallery.shape).astype(np.float32) for _ in range(2)
    )
    relevance = Relevance.from_rows([[row] for row in range(300)])
    alpha, measured = choose_alpha(
        old, bridged, lambda q: evaluate(SearchSpace(q, gallery), relevance).means["mrr@10"]
    )
    assert 0.2 <= alpha <= 0.8
    assert measured[alpha] > max(measured[0.0], measured[1.0]) + 0.05


def test_of_equal_blends_the_one_nearest_to_the_old_query_is_taken():
    u = np.eye(2, dtype=np.float32)
    assert choose_alpha(u, u, lambda _: 1.0)[0] == 0.0


def test_re_encoded_rows_are_scored_by_the_new_model():
    blocks = {Channel.BLEND: np.full((2, 3), 0.2), Channel.NEW: np.full((2, 3), 0.7)}
    scores = SlerpServing().score(blocks, np.array([False, True, False]))
    assert scores.tolist() == [[0.2, 0.7, 0.2]] * 2
