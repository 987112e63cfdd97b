"""Strengths of centring: found where nearness to the mean misleads, none elsewhere."""

from dataclasses import replace

import numpy as np
import pytest

from xbtmigrate.evaluation.answer_ranks import evaluate
from xbtmigrate.evaluation.retrieval import Relevance, SearchSpace
from xbtmigrate.scoring.centring import FILE, FOLDS, SHARES, Centring, folds_of
from xbtmigrate.training.fit_centring import CentringTask, centre_in_place, fit_centring
from xbtmigrate.types import Distance

POINTS, QUERIES, SIZE = 600, 200, 16


def task(spread: float, distance: Distance = Distance.COSINE) -> CentringTask:
    """A space around a mean that points lie nearer to and farther from, which means nothing."""
    rng = np.random.default_rng(0)
    mean = np.zeros(SIZE, np.float32)
    mean[0] = 6
    own = rng.standard_normal((POINTS, SIZE)).astype(np.float32)
    noise = rng.standard_normal((2, POINTS, SIZE)).astype(np.float32)
    new = (1 + spread * (2 * rng.random((POINTS, 1), np.float32) - 1)) * mean + own
    queries, projected = (mean + own + 0.5 * noise[0])[:QUERIES], new + 0.3 * noise[1]
    return CentringTask(
        [str(row) for row in range(QUERIES)],
        queries,
        Relevance.from_rows([[row] for row in range(QUERIES)]),
        projected,
        new,
        rng.permutation(POINTS),
        distance,
    )


def fitted(given: CentringTask) -> Centring:
    found = fit_centring(given, forward="f", basis="tests")
    assert found is not None
    return found


def test_queries_are_centred_where_nearness_to_the_mean_misleads() -> None:
    found = fitted(task(spread=1))
    assert min(found.strengths[1:9]) > 0
    assert len(found.strengths) == len(SHARES)
    assert len(found.held_out) == FOLDS
    np.testing.assert_allclose(np.linalg.norm(found.mean), 1, rtol=1e-5)


def test_they_are_not_where_all_points_are_equally_near() -> None:
    assert fitted(task(spread=0)).strengths == [0.0] * len(SHARES)


def test_a_query_is_measured_with_strengths_that_were_fitted_without_it() -> None:
    given = task(spread=1)
    found, fold = fitted(given), folds_of(given.texts)
    held = found.strengths_for(given.texts)
    for each in range(FOLDS):
        np.testing.assert_allclose(held[fold == each][0], found.held_out[each])
    # Answers of one fold's queries do not reach the strengths that it is measured with.
    other = given.relevance.row.copy()
    other[fold == 0] = 0
    moved = CentringTask(
        given.texts, given.queries, Relevance(QUERIES, given.relevance.query, other),
        given.projected, given.new, given.order, given.distance,
    )  # fmt: skip
    assert fitted(moved).held_out[0] == found.held_out[0]


@pytest.mark.parametrize("distance", [Distance.EUCLID, Distance.MANHATTAN])
def test_distances_that_do_not_depend_on_the_origin_are_left_alone(distance: Distance) -> None:
    assert fit_centring(task(1, distance), forward="f", basis="tests") is None


def test_dot_products_are_centred_too() -> None:
    assert max(fitted(task(1, Distance.DOT)).strengths) > 0


def test_too_few_queries_fit_nothing() -> None:
    given = task(1)
    few = CentringTask(
        given.texts[:30], given.queries[:30], given.relevance.part(slice(0, 30)),
        given.projected, given.new, given.order, given.distance,
    )  # fmt: skip
    assert fit_centring(few, forward="f", basis="tests") is None


def test_the_queries_of_one_space_are_centred_by_what_other_folds_chose() -> None:
    given = task(spread=1)
    space = SearchSpace(given.queries, given.new)
    centred = centre_in_place(space, given.texts, given.relevance)
    assert centred is not None
    raw, better = (evaluate(each, given.relevance).means["mrr@10"] for each in (space, centred))
    assert better > raw + 0.01
    assert (
        centre_in_place(replace(space, distance=Distance.EUCLID), given.texts, given.relevance)
        is None
    )


def test_it_is_stored_and_read_again(tmp_path) -> None:
    found = fitted(task(1))
    found.save(tmp_path)
    assert (tmp_path / FILE).stat().st_size < 20_000
    loaded = Centring.load(tmp_path)
    assert loaded is not None
    assert list(loaded.strengths) == list(found.strengths)
    away = loaded.away(0.5)
    assert away is not None
    strength = found.strengths[5]
    np.testing.assert_allclose(away @ away, strength, rtol=1e-5)
    assert Centring.load(tmp_path / "elsewhere") is None
