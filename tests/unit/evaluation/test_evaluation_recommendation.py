"""Cases whose right answer is known: keep, bridge, forward, fastfill, full."""

import numpy as np
import pytest

from xbtmigrate.evaluation.curves import Curve
from xbtmigrate.evaluation.recommendation import Costs, Criteria, recommend
from xbtmigrate.evaluation.retrieval import METRICS, QueryScores
from xbtmigrate.types import Strategy

QUERIES = 1000
FREE = Costs(forward=10, full=1000)


def system(share):
    """A system that answers the first `share` of the queries."""
    values = (np.arange(QUERIES) < share * QUERIES).astype(float)
    return QueryScores(dict.fromkeys(METRICS, values))


def curve(values, ordering="uncertainty", serving="single"):
    fractions = tuple(np.linspace(0, 1, len(values)).tolist())
    return Curve(ordering, serving, fractions, tuple(system(value) for value in values))


def cells(keep=0.30, full=0.80, **others):
    named = {name.replace("_", ":"): system(value) for name, value in others.items()}
    return {"keep": system(keep), "full": system(full)} | named


def test_keep_where_the_new_model_is_no_better():
    answer = recommend(cells(keep=0.5, full=0.4, bridge_ridge=0.45), [], FREE)
    assert (answer.strategy, answer.fraction, answer.serving) == (Strategy.KEEP, 0.0, None)
    assert "0.400 against 0.500" in answer.reason


def test_keep_where_the_gain_is_not_significant():
    answer = recommend(cells(keep=0.500, full=0.503), [], FREE)
    assert answer.strategy is Strategy.KEEP
    assert "paired p = 0.25" in answer.reason


def test_keep_where_nothing_affordable_beats_it():
    sagging = curve([0.25, 0.28, 0.45, 0.8])
    answer = recommend(
        cells(forward_mlp=0.25), [sagging], Costs(forward=10, full=1000, limit=350.0)
    )
    assert answer.strategy is Strategy.KEEP
    assert "nothing within the budget beats keep" in answer.reason


def test_bridge_where_it_closes_the_gap_since_it_writes_nothing():
    answer = recommend(cells(bridge_mlp=0.79, forward_mlp=0.80), [curve([0.8, 0.8])], FREE)
    assert answer.strategy is Strategy.BRIDGE
    assert "bridge:mlp reaches recall@10 0.790" in answer.reason


def test_forward_where_only_it_closes_the_gap():
    answer = recommend(cells(bridge_mlp=0.60, forward_mlp=0.79), [curve([0.79, 0.8])], FREE)
    assert (answer.strategy, answer.serving, answer.ordering) == (
        Strategy.FORWARD,
        "single",
        None,
    )


def test_forward_by_the_serving_that_closes_the_gap():
    fused = curve([0.79, 0.79, 0.8], serving="calibrated")
    answer = recommend(cells(forward_mlp=0.60), [fused], FREE)
    assert (answer.strategy, answer.serving, answer.fraction) == (
        Strategy.FORWARD,
        "calibrated",
        0.0,
    )


def test_fastfill_at_the_smallest_fraction_of_the_best_order():
    slow = curve([0.25, 0.35, 0.5, 0.6, 0.8], ordering="random")
    fast = curve([0.25, 0.5, 0.72, 0.8, 0.8])
    answer = recommend(cells(forward_mlp=0.25), [slow, fast], FREE)
    assert (answer.strategy, answer.ordering) == (Strategy.FASTFILL, "uncertainty")
    assert answer.fraction == pytest.approx(0.5 + 0.25 * 0.04 / 0.08)
    assert "reaches recall@10 0.760" in answer.reason
    assert "worse than keep (0.250 at 0%)" in answer.reason


def test_no_warning_where_the_curve_is_never_below_keep():
    answer = recommend(cells(), [curve([0.35, 0.5, 0.78, 0.8])], FREE)
    assert answer.strategy is Strategy.FASTFILL
    assert "worse" not in answer.reason


def test_full_where_the_target_needs_nearly_everything():
    answer = recommend(cells(forward_mlp=0.25), [curve([0.25, 0.4, 0.5, 0.8])], FREE)
    assert (answer.strategy, answer.fraction) == (Strategy.FULL, 1.0)


def test_full_where_mapping_first_and_a_part_cost_more():
    good = curve([0.25, 0.5, 0.77, 0.79, 0.8])
    cheap = recommend(cells(), [good], Costs(forward=400, full=1000))
    assert (cheap.strategy, cheap.serving) == (Strategy.FASTFILL, "single")
    dear = recommend(cells(), [good], Costs(forward=600, full=1000))
    assert (dear.strategy, dear.fraction) == (Strategy.FULL, 1.0)
    assert "to map every point first costs more" in dear.reason
    assert recommend(cells(), [good], Costs()).strategy is Strategy.FASTFILL


def test_a_budget_short_of_the_target_buys_the_best_it_can():
    partial = curve([0.25, 0.45, 0.6, 0.75, 0.8])
    answer = recommend(cells(), [partial], Costs(forward=10, full=1000, limit=520.0))
    assert (answer.strategy, answer.fraction) == (Strategy.FASTFILL, 0.5)
    assert answer.reason.startswith("the budget ends before the target; re-encoding 50%")


def test_a_partial_backfill_below_keep_is_not_good_enough():
    """Where old and new are close, 95 % of full can be less than keep."""
    answer = recommend(cells(keep=0.77, full=0.80), [curve([0.7, 0.765, 0.766, 0.8])], FREE)
    assert answer.strategy is Strategy.FULL


def test_self_made_relevance_recommends_nothing():
    answer = recommend(cells(), [], FREE, Criteria(provisional=True))
    assert (answer.strategy, answer.serving, answer.fraction) == (None, None, 0.0)
    assert answer.provisional
    assert "provisional" in answer.reason


LEAVING = Criteria(must_leave="provider")


def test_who_must_leave_goes_to_the_crossover_at_the_least_cost():
    same = cells(keep=0.60, full=0.60)
    slow, fast = curve([0.4, 0.5, 0.6, 0.6, 0.6]), curve([0.4, 0.6, 0.6, 0.6, 0.6], "benefit")
    answer = recommend(same, [slow, fast], FREE, LEAVING)
    assert (answer.strategy, answer.ordering, answer.fraction) == (
        Strategy.FASTFILL, "benefit", pytest.approx(0.25),
    )  # fmt: skip
    assert "cannot be kept (provider)" in answer.reason
    assert "does not beat the old one" in answer.reason
    assert recommend(same, [slow, fast], FREE).strategy is Strategy.KEEP


def test_who_must_leave_encodes_nothing_where_projections_are_as_good():
    answer = recommend(cells(keep=0.60, full=0.60), [curve([0.6, 0.6])], FREE, LEAVING)
    assert (answer.strategy, answer.fraction, answer.serving) == (Strategy.FORWARD, 0.0, "single")


@pytest.mark.parametrize("serving", ["single", "calibrated"])
def test_who_must_leave_encodes_everything_where_one_space_is_never_as_good(serving):
    worse = cells(keep=0.60, full=0.50)
    values = [0.4, 0.5, 0.5] if serving == "single" else [0.7, 0.7, 0.5]
    answer = recommend(worse, [curve(values, serving=serving)], FREE, LEAVING)
    assert (answer.strategy, answer.fraction) == (Strategy.FULL, 1.0)


def test_one_space_is_preferred_to_a_fusion_that_is_no_better_there():
    single = curve([0.3, 0.5, 0.74, 0.77, 0.8])
    near, better = (
        curve([0.3, 0.6, value, 0.78, 0.8], serving="calibrated") for value in (0.761, 0.79)
    )
    answer = recommend(cells(), [near, curve([0.3, 0.5, 0.758, 0.77, 0.8])], FREE)
    assert answer.serving == "single"
    assert recommend(cells(), [better, single], FREE).serving == "calibrated"
