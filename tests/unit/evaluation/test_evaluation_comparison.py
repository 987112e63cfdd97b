"""Intervals cover, tests reject what they should, and the ratios are those of the papers."""

import numpy as np
import pytest

from xbtmigrate.errors import EvaluationError
from xbtmigrate.evaluation import comparison
from xbtmigrate.evaluation.comparison import (
    Interval,
    bootstrap_intervals,
    compare,
    gap_closed,
    negative_flips,
    paired_permutation_test,
)
from xbtmigrate.evaluation.retrieval import METRICS, QueryScores


def scores_of(values):
    values = np.asarray(values, dtype=np.float64)
    return QueryScores({name: values.copy() for name in METRICS})


def test_the_interval_is_that_of_the_normal_approximation_and_is_reproducible():
    values = (np.random.default_rng(0).random((900, 1)) < 0.3).astype(float)
    first = bootstrap_intervals(values, seed=7)
    assert first == bootstrap_intervals(values, seed=7) != bootstrap_intervals(values, seed=8)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert first[0].low == pytest.approx(values.mean() - half, abs=0.004)
    assert first[0].high == pytest.approx(values.mean() + half, abs=0.004)


def test_the_interval_of_one_query_is_its_value():
    assert bootstrap_intervals(np.array([[0.5, 1.0]]), seed=0) == [
        Interval(0.5, 0.5),
        Interval(1.0, 1.0),
    ]


def test_the_paired_test_agrees_with_the_exact_sign_test_of_few_queries():
    system, keep = np.ones((5, 1)), np.zeros((5, 1))
    (p,) = paired_permutation_test(system, keep, seed=0, permutations=40_000)
    assert p == pytest.approx(2 / 2**5, abs=0.004)


def test_no_difference_is_never_significant_and_a_clear_one_is():
    rng = np.random.default_rng(3)
    keep = (rng.random((500, 2)) < 0.3).astype(float)
    system = keep.copy()
    system[:60, 1] = 1.0
    same, better = paired_permutation_test(system, keep, seed=0)
    assert same == 1.0
    assert better < 0.001


def test_blocks_change_only_the_memory(monkeypatch):
    values = np.random.default_rng(1).random((200, 3))
    whole = bootstrap_intervals(values, seed=0)
    monkeypatch.setattr(comparison, "CELLS", 200 * 7)
    for one, other in zip(whole, bootstrap_intervals(values, seed=0), strict=True):
        assert one.low == pytest.approx(other.low, abs=0.01)
        assert one.high == pytest.approx(other.high, abs=0.01)


def test_a_comparison_holds_the_figures_of_the_criterion():
    keep = scores_of([1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    full = scores_of([1, 1, 1, 1, 1, 1, 0, 0, 0, 0])
    system = scores_of([0, 1, 1, 1, 1, 0, 0, 0, 0, 0])
    result = compare(system, keep, full, seed=0)
    assert result.means["recall@10"] == 0.4
    assert all(result.compatible.values())
    assert result.gap_closed["mrr@10"] == pytest.approx(0.5)
    assert result.negative_flips == 0.1
    assert isinstance(result.ci95["recall@1"], Interval)
    assert not result.beats_keep("recall@10")
    assert not any(compare(keep, keep, full, seed=0).compatible.values())


def test_there_is_no_gap_to_close_where_full_is_not_ahead():
    assert gap_closed(0.4, 0.3, 0.3) is None
    assert gap_closed(0.003, 0.764, 0.76) is None
    assert gap_closed(0.2, 0.3, 0.5) == pytest.approx(-0.5)


def test_a_system_stands_better_or_worse_or_cannot_be_told_apart():
    keep = scores_of([1] * 20 + [0] * 20)
    few, many = scores_of([1] * 21 + [0] * 19), scores_of([1] * 35 + [0] * 5)
    standings = [
        compare(each, keep, many, seed=0).standing("recall@10")
        for each in (keep, few, many, scores_of([0] * 40))
    ]
    assert standings == ["no difference", "no difference", "better", "worse"]
    narrowed = compare(few, keep, many, seed=0, gaps=["mrr@10"])
    assert narrowed.gap_closed["recall@10"] is None
    assert narrowed.gap_closed["mrr@10"] == pytest.approx(1 / 15)


def test_flips_count_lost_answers_only():
    assert negative_flips(scores_of([0, 1, 1, 0]), scores_of([1, 1, 0, 0])) == 0.25


def test_other_queries_cannot_be_compared():
    with pytest.raises(EvaluationError, match="different queries"):
        compare(scores_of([1, 0]), scores_of([1]), scores_of([1, 1]), seed=0)
