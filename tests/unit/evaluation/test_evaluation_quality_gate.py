"""Quality gates: what is read, what is refused, and when they are met."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbtmigrate.errors import ConfigError, EvaluationError
from xbtmigrate.evaluation.quality_gate import ANCHORS, Gate
from xbtmigrate.evaluation.retrieval import METRICS

CELLS = {"keep": dict.fromkeys(METRICS, 0.4), "full": dict.fromkeys(METRICS, 0.8)}
levels = st.decimals(0, 1, places=4).map(float)


@pytest.mark.parametrize(
    ("text", "level", "strict"),
    [
        ("recall@10>=keep", 0.4, False),
        ("keep", 0.4, False),
        ("recall@10 >= 0.95*full", 0.76, False),
        (" mrr@10 > .3 ", 0.3, True),
        ("ndcg@10>keep+0.01", 0.41, True),
        ("ndcg@10>keep +\t0.01", 0.41, True),
        ("map@100>=0.5 * full - 0.1", 0.3, False),
        ("recall@1>=1", 1.0, False),
    ],
)
def test_a_gate_is_read(text: str, level: float, strict: bool):
    gate = Gate.parse(text)
    assert gate.level(CELLS) == pytest.approx(level)
    assert gate.strict is strict


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a quality gate"),
        ("recall@10", "not a quality gate"),
        ("recall@10=keep", "not a quality gate"),
        ("recall@10<=keep", "not a quality gate"),
        ("recall@10>=", "not a quality gate"),
        ("recall@10>=keep*2", "not a quality gate"),
        ("recall@10>=-1", "not a quality gate"),
        ("recall@10>=keep and mrr@10>=keep", "not a quality gate"),
        ("recall@7>=keep", "recall@7"),
        ("recall@10>=forward", "forward"),
        ("recall@10>=95", "never be met"),
    ],
)
def test_what_is_no_gate_is_a_usage_error_with_a_hint(text: str, said: str):
    with pytest.raises(ConfigError, match=said) as refused:
        Gate.parse(text)
    assert refused.value.hint


def test_an_anchor_that_was_not_measured_is_an_error():
    keep = {"keep": CELLS["keep"]}
    assert Gate.parse("recall@10>=keep").judge(CELLS["full"], keep).met
    with pytest.raises(EvaluationError, match="full"):
        Gate.parse("recall@10>=0.95*full").judge(CELLS["full"], keep)


def test_a_verdict_says_both_figures():
    said = str(Gate.parse("mrr@10>=0.95*full").judge(CELLS["keep"], CELLS))
    assert said == "gate mrr@10>=0.95*full not met: 0.4000 against 0.7600"


@given(st.text(max_size=40))
def test_any_text_is_a_gate_or_a_usage_error(text: str):
    try:
        gate = Gate.parse(text)
    except ConfigError:
        return
    assert gate.metric in METRICS


@given(
    st.sampled_from(METRICS), st.sampled_from([">=", ">"]), st.sampled_from(ANCHORS), levels, levels
)
def test_a_level_is_factor_times_anchor_plus_what_is_added(
    metric: str, sign: str, anchor: str, factor: float, added: float
):
    gate = Gate.parse(f"{metric}{sign}{factor:f}*{anchor}+{added:f}")
    expected = factor * CELLS[anchor][metric] + added
    assert gate.level(CELLS) == pytest.approx(expected)
    assert gate.judge({metric: gate.level(CELLS)}, CELLS).met is (sign == ">=")


@given(st.sampled_from(METRICS), levels, levels)
def test_a_better_system_meets_every_gate_that_a_worse_one_meets(
    metric: str, low: float, high: float
):
    low, high = sorted((low, high))
    for text in (f"{metric}>=keep", f"{metric}>0.9*full", f"{metric}>=0.3"):
        gate = Gate.parse(text)
        if gate.judge({metric: low}, CELLS).met:
            assert gate.judge({metric: high}, CELLS).met
