"""What the report says: only what its figures show, and the commands that lead on."""

from __future__ import annotations

from typing import Any

import pytest

from xbtmigrate.migration.plan import Cost
from xbtmigrate.types import Strategy
from xbtmigrate.workflows.evaluate.report_curves import curve_section
from xbtmigrate.workflows.evaluate.report_next import WAY, what_next
from xbtmigrate.workflows.evaluate.report_sections import make_sections
from xbtmigrate.workflows.evaluate.results import METRICS
from xbtmigrate.workflows.next_step import next_step

SHARES = [0.0, 0.25, 0.5, 0.75, 1.0]
RISING = [0.3, 0.4, 0.5, 0.6, 0.7]


def system(name: str, value: float, gap: float | None = None) -> dict[str, Any]:
    return {
        **dict.fromkeys(METRICS, value),
        "name": name,
        "by_definition": False,
        "estimated": False,
        "chosen": True,
        "ci95": {metric: [value - 0.02, value + 0.02] for metric in METRICS},
        "p_value": dict.fromkeys(METRICS, 0.01),
        "against_keep": dict.fromkeys(METRICS, "better"),
        "gap_closed": dict.fromkeys(METRICS, gap),
        "negative_flips": 0.1,
    }


def curve(values: list[float], serving: str = "single", ordering: str = "random") -> dict[str, Any]:
    return {
        **dict.fromkeys(METRICS, values),
        "ordering": ordering,
        "serving": serving,
        "fractions": SHARES,
        "ci95": [[each - 0.02, each + 0.02] for each in values],
        "auc": sum(values) / len(values),
        "no_regret": False,
        "fraction_to_keep": next(
            (s for s, v in zip(SHARES, values, strict=True) if v >= 0.5), None
        ),
        "fraction_to_full": {"0.9": None, "0.95": None, "0.98": None},
    }


def content(
    systems: list[dict[str, Any]], curves: list[dict[str, Any]], strategy: str | None = None
) -> dict[str, Any]:
    return {
        "direction": "text->text",
        "systems": systems,
        "curves": curves,
        "error_estimate": None,
        "scores": None,
        "examples": {"lost": [], "gained": []},
        "directions": [],
        "recommendation": {
            "strategy": strategy,
            "ordering": None,
            "serving": None,
            "fraction": 0.0,
        },
    }


ENDS = [system("keep", 0.5, 0.0), system("full", 0.7, 1.0)]


@pytest.mark.parametrize(
    ("values", "said", "unsaid"),
    [
        (RISING, "rises", "falls"),
        (RISING[::-1], "falls", "rises"),
        ([0.5] * 5, "flat", "rises"),
        ([0.5, 0.7, 0.8, 0.7, 0.6], "best on the way, at 0.800 with 50% re-encoded", "rises"),
        ([0.7, 0.5, 0.4, 0.5, 0.6], "worst on the way, at 0.400 with 50% re-encoded", "falls"),
    ],
)
def test_nothing_is_said_of_a_curve_that_it_does_not_show(values, said, unsaid):
    section = curve_section(content(ENDS, [curve(values)]), "curves")
    assert said in section.text
    assert unsaid not in section.text
    assert f"begins at {values[0]:.3f} and ends at {values[-1]:.3f}" in section.text


def test_lines_that_are_the_same_are_one_and_the_crossover_is_marked():
    curves = [curve(RISING), curve(RISING, "merge"), curve(RISING[::-1], "slerp")]
    section = curve_section(content(ENDS, curves), "curves")
    assert "single, merge (AUC" in section.figure
    assert "slerp (AUC" in section.figure
    assert "crossover 50%" in section.figure
    flat = curve_section(content(ENDS, [curve([0.6] * 5)]), "curves")
    assert "crossover" not in flat.figure, "it begins above keep: nothing is crossed"


def test_the_best_row_of_a_strategy_is_shown_and_the_rest_is_folded():
    rows = [*ENDS, system("bridge:ridge", 0.2), system("bridge:mlp", 0.3), system("forward:x", 0.0)]
    cells = make_sections(content(rows, [curve(RISING)]), [], next_step(None))[0]
    best, every = cells.tables
    assert [row[0] for row in best.rows] == ["keep", "full", "bridge:mlp", "forward:x"]
    assert every.folded
    assert len(every.rows) == len(rows)
    assert "forward:x finds next to nothing" in cells.text
    assert "forward:x" not in cells.figure, "a bar at 0.00 stretches the axis"


@pytest.mark.parametrize("gap", [None, 0.4])
def test_the_gap_is_left_out_where_there_is_none(gap: float | None):
    rows = [system("keep", 0.5), system("forward:x", 0.55, gap), system("full", 0.6)]
    cells = make_sections(content(rows, [curve(RISING)]), [], next_step(None))[0]
    assert ("gap closed" in cells.tables[0].columns) == (gap is not None)
    assert ("gap closed" in dict(cells.terms)) == (gap is not None)
    assert {len(row) for row in cells.tables[0].rows} == {len(cells.tables[0].columns)}


@pytest.mark.parametrize(("seconds", "drawn"), [(5.0, False), (500.0, True)])
def test_working_time_is_drawn_only_where_it_decides(seconds: float, drawn: bool):
    costs = [
        Cost(
            strategy=each,
            encodes=0,
            writes=0,
            seconds=seconds,
            disk_bytes=0,
            ram_bytes=0,
            money=None,
        )
        for each in Strategy
    ]
    found = make_sections(content(ENDS, [curve(RISING)]), costs, next_step(None))
    offers = next(each for each in found if each.title == "Cost against quality")
    assert bool(offers.figure) == drawn
    assert ("less than a minute" in offers.text) != drawn


def test_a_report_ends_in_the_commands_that_lead_on():
    def commands(strategy: str | None, command: str | None) -> list[str]:
        section = what_next({"strategy": strategy}, next_step(command, "A note."))
        assert section.text == "A note."
        return [name for name, _ in section.steps]

    every = list(WAY)
    assert commands("forward", "xbtmigrate plan") == ["xbtmigrate plan", *every]
    assert commands("forward", every[0]) == every
    ahead = "xbtmigrate backfill --online --fraction 0.2"
    assert commands("fastfill", ahead) == [ahead, *every[3:]]
    assert every[0] not in commands("full", "xbtmigrate plan")
    assert commands("keep", None) == []
    assert commands(None, "xbtmigrate plan") == ["xbtmigrate plan"]
