"""Tables show what decides, and the paragraph below them says it in words."""

from __future__ import annotations

import sys

import pytest

from xbtmigrate.cli import render
from xbtmigrate.cli.figures import SHARES, Row, best_of_each, in_words, show_curves, show_systems
from xbtmigrate.evaluation.servings import SERVED


def row(name: str, recall: float, against: str = "no difference", **more: object) -> Row:
    metrics = {"recall@1": recall / 2, "recall@10": recall, "mrr@10": recall / 2}
    return Row(name, metrics, more.pop("by_definition", False), against, **more)


ROWS = [
    row("keep", 0.5),
    row("bridge:ridge", 0.55, chosen=False),
    row("bridge:procrustes", 0.52),
    row("forward:ridge", 0.0, "worse"),
    row("fusion:calibrated", 0.6, "better", gap=0.25),
    row("full", 0.9, "better", gap=1.0),
]


def test_the_best_row_of_a_strategy_is_one_that_would_be_used():
    names = [each.name for each in best_of_each(ROWS)]
    assert names == ["keep", "bridge:procrustes", "forward:ridge", "fusion:calibrated", "full"]


def test_another_way_to_search_as_it_is_does_not_stand_for_keep():
    rows = [*ROWS, row("keep:centred", 0.7, "better")]
    assert {"keep", "keep:centred"} <= {each.name for each in best_of_each(rows)}
    assert "0.500 by search as it is (keep)" in in_words(rows, None, 0, 10)
    assert "keep:centred reaches 0.700" in in_words(rows, None, 0, 10)


def test_a_search_by_words_that_beats_keep_comes_before_a_new_model():
    words = [row("lexical", 0.6), row("keep+lexical", 0.8, "better")]
    told = in_words([*ROWS, *words], "forward", 0, 10)
    assert "keep+lexical reaches 0.800 without a new model: add a sparse vector first." in told
    assert "fusion:calibrated reaches 0.600 and embeds no point again." in told
    assert "sparse" not in in_words([*ROWS, words[0]], "forward", 0, 10)


def test_rows_of_nothing_and_what_is_folded_away(capsys: pytest.CaptureFixture[str]):
    show_systems("Found", ROWS, every=False)
    short = capsys.readouterr().out
    assert "forward:ridge" not in short
    assert "bridge:ridge" not in short
    assert "1 more row: --all" in short
    show_systems("Found", ROWS, every=True)
    long = capsys.readouterr().out
    assert "bridge:ridge" in long
    assert "--all" not in long


def test_an_estimate_is_marked_in_the_table_and_in_words(capsys: pytest.CaptureFixture[str]):
    rows = [row("keep", 0.5, estimated=True), *ROWS[1:]]
    show_systems("T", rows, every=False)
    assert "keep (estimate)" in capsys.readouterr().out
    assert "0.500 by the old model, which is gone (keep, an estimate)" in in_words(rows, None, 0, 9)


def test_a_figure_that_is_1_by_definition_is_not_compared(capsys: pytest.CaptureFixture[str]):
    given = [ROWS[0], row("full", 1.0, "better", by_definition=True)]
    show_systems("Found", given, every=False)
    out = capsys.readouterr().out
    assert "1 by definition" in out
    assert "better" not in out
    assert "(full)" not in in_words(given, None, 0, 100)


def test_every_column_of_the_curves_fits_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    figures = {"auc": 0.227, "recall@10": [0.171] * len(SHARES), "fractions": list(SHARES)}
    show_curves(
        [
            {"serving": name, "ordering": "uncertainty", "fraction_to_keep": None} | figures
            for name in SERVED
        ],
        every=True,
    )
    rows = [line for line in capsys.readouterr().out.splitlines() if "uncertainty" in line]
    assert [row.split()[0] for row in rows] == sorted(SERVED, key=lambda name: name != "single")
    assert {row.count("0.171") for row in rows} == {len(SHARES)}
    assert max(map(len, rows)) <= 80


def test_the_paragraph_says_what_was_found_and_what_it_costs():
    assert in_words(ROWS, "fastfill", 0.3, 12_000) == (
        "Share of the right answers among the first ten (recall@10): 0.500 by search as it is "
        "(keep), 0.900 by the new model on every point (full). fusion:calibrated reaches 0.600 and "
        "embeds no point again. The cost of fastfill: one vector is written for each of 12,000 "
        "points, and 30% of them are embedded again."
    )
    nothing = in_words([ROWS[0], ROWS[2], ROWS[5]], "full", 1, 10)
    assert "Nothing is better than keep that embeds no point again. The cost of full:" in nothing


def test_words_wrap_and_a_path_stays_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "60")
    path = "/a/" + "long/" * 20
    render.facts("Places", [("kept_in", path), ("gone", None), ("why", "word " * 30)])
    lines = capsys.readouterr().out.splitlines()
    assert any(path in line for line in lines)
    assert all(len(line) <= 60 for line in lines if path not in line)
    assert not any("gone" in line for line in lines)
    assert any(line.startswith("  kept in") for line in lines)
