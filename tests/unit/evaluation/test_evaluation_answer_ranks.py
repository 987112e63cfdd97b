"""Counted ranks of answers are those of sorted lists."""

import numpy as np
import pytest

from xbtmigrate.evaluation.answer_ranks import judge_ranks, rank_answers, rank_in_steps
from xbtmigrate.evaluation.curves import measure_curves
from xbtmigrate.evaluation.mixed_gallery import Merge, find_turns, mark_encoded
from xbtmigrate.evaluation.retrieval import (
    DEPTH,
    Relevance,
    SearchSpace,
    judge,
    rank_top_k,
)
from xbtmigrate.types import Channel

FRACTIONS = (0.0, 0.25, 0.3, 0.8, 1.0)
QUERIES = 23


@pytest.fixture(params=[90, 600], ids=["every row is listed", "few rows are"])
def blocks(request):
    """Scores in both states, with many ties, on scales that differ."""
    rng = np.random.default_rng(request.param)
    waiting, encoded = (
        np.round(3 * rng.standard_normal((QUERIES, request.param)) + mean).astype(np.float32)
        for mean in (0, 2)
    )
    return waiting, encoded


@pytest.fixture
def relevance(blocks):
    """One to four answers a query, near ones and far ones."""
    rng, (waiting, _) = np.random.default_rng(1), blocks
    ranked = np.argsort(-waiting, axis=1)
    return Relevance.from_rows(
        [
            [ranked[query, rng.integers(0, reach)] for reach in (20, 60, 90, 90)[: 1 + query % 4]]
            for query in range(QUERIES)
        ]
    )


def same(ranks, scores, relevance):
    sorted_lists, counted = (
        judge(rank_top_k(scores, DEPTH), relevance),
        judge_ranks(ranks, relevance),
    )
    for name, values in sorted_lists.values.items():
        np.testing.assert_allclose(counted.values[name], values, atol=1e-12, err_msg=name)


def test_ranks_in_one_space(blocks, relevance):
    for scores in blocks:
        same(rank_answers(scores, relevance), scores, relevance)


def test_ranks_at_every_step_of_several_orders(blocks, relevance):
    waiting, encoded = blocks
    rng, rows = np.random.default_rng(2), waiting.shape[1]
    orders = [np.arange(rows), rng.permutation(rows)]
    turns = [find_turns(order, FRACTIONS) for order in orders]
    found = rank_in_steps(waiting, encoded, relevance, turns=turns, steps=len(FRACTIONS))
    for order, ranks in zip(orders, found, strict=True):
        for fraction, each in zip(FRACTIONS, ranks, strict=True):
            mixed = np.where(mark_encoded(order, fraction), encoded, waiting)
            same(each, mixed, relevance)


def test_a_serving_that_looks_at_other_points_is_scored_at_each_share(blocks, relevance):
    class Halves(Merge):
        """Half of the highest score of each half, so that neither crowds out the other."""

        by_state = False

        def score(self, blocks, encoded):
            found = super().score(blocks, encoded)
            for half in (encoded, ~encoded):
                if half.any():
                    found[:, half] -= found[:, half].max(axis=1, keepdims=True) / 2
            return found

    rng, rows = np.random.default_rng(3), blocks[0].shape[1]
    spaces = {
        channel: SearchSpace(*(rng.random((count, 4), np.float32) for count in (QUERIES, rows)))
        for channel in (Channel.OLD, Channel.NEW)
    }
    order = rng.permutation(rows)
    [curve] = measure_curves(spaces, relevance, orders={"any": order}, servings=[Halves()])
    scores = {channel: space.score() for channel, space in spaces.items()}
    for fraction, point in zip(curve.fractions, curve.points, strict=True):
        mixed = Halves().score(scores, mark_encoded(order, fraction))
        assert point.means == pytest.approx(judge(rank_top_k(mixed, DEPTH), relevance).means)
