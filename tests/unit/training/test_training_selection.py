"""The retrieval figures projectors are chosen by."""

import numpy as np
import pytest

from xbtmigrate.training import measure_retrieval
from xbtmigrate.types import Distance


def line(*values):
    return np.array([[1, v] for v in values], np.float32)


def rows(*values):
    return [np.array([v]) for v in values]


def test_ranks_by_hand():
    gallery = line(*range(20))
    scores = measure_retrieval(line(0.0, 4.4), gallery, rows(0, 2), Distance.EUCLID)
    assert scores.recall_at_1 == 0.5
    assert scores.recall_at_10 == 1.0
    assert scores.mrr == pytest.approx((1 + 1 / 5) / 2)


def test_several_relevant_rows_count_by_share():
    gallery = line(*range(30))
    scores = measure_retrieval(line(0.0), gallery, [np.array([0, 25])], Distance.EUCLID)
    assert (scores.recall_at_10, scores.mrr) == (0.5, 1.0)


def test_a_gallery_on_one_point_scores_nothing():
    gallery = np.ones((100, 2), np.float32)
    assert measure_retrieval(gallery[:3], gallery, rows(0, 1, 2), Distance.DOT).recall_at_10 == 0


@pytest.mark.parametrize(
    ("distance", "first"),
    [(Distance.COSINE, 0), (Distance.DOT, 1), (Distance.EUCLID, 2), (Distance.MANHATTAN, 3)],
)
def test_each_distance_has_its_own_nearest(distance, first):
    gallery = np.array([[0.1, 0.1], [9, 0], [2.9, 3.1], [2, 3.5]], np.float32)
    query = np.array([[2, 2]], np.float32)
    assert measure_retrieval(query, gallery, rows(first), distance).recall_at_1 == 1
