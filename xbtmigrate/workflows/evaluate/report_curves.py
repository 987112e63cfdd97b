"""Build the section of a report that shows quality while the gallery is mixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.report import figures
from xbtmigrate.report.figures import Line
from xbtmigrate.report.page import Section, Table
from xbtmigrate.types import Strategy
from xbtmigrate.workflows.evaluate.experiment import ORACLE
from xbtmigrate.workflows.evaluate.results import METRIC

Document: TypeAlias = Mapping[str, Any]

NONE = "-"
SAME = 0.0005
"""Curves that differ by less at every share are one line on paper."""
FLAT = 0.01
"""A change of quality that is not worth a sentence."""
CURVE_COLUMNS = ["order, serving", "AUC", "no regret", "keep at", "90 % of full", "95 %", "98 %"]
CURVE_TERMS = [
    ("order", "which points are re-encoded first; oracle knows the true error of every projection "
     "and is an upper bound, not a choice"),
    ("serving", "how queries are answered meanwhile; single searches the new space alone"),
    ("AUC", "mean quality over the whole curve"),
    ("no regret", "whether no point of the curve is below keep"),
    ("keep at, crossover", "least share re-encoded that reaches keep: the circle on a line"),
    ("90 % of full", "least share that reaches 90 % of the quality of full"),
]  # fmt: skip


def curve_section(block: Document, name: str) -> Section:
    """Plot the best order of each serving, and every order of the best serving."""
    curves = block["curves"]
    # A recommendation of keep, bridge or full has no curve; then the best one is highlighted.
    chosen = find_recommended(block) or max(list_deployable(curves), key=lambda curve: curve["auc"])
    servings = dict.fromkeys(curve["serving"] for curve in curves)
    best = [
        max(
            (c for c in list_deployable(curves) if c["serving"] == serving),
            # The recommended curve stays, even where another order has a larger AUC.
            key=lambda c: (c is chosen, c["auc"]),
        )
        for serving in servings
    ]
    same = [curve for curve in curves if curve["serving"] == chosen["serving"]]
    panels = {
        "each serving, by its best order": _lines(best, "serving", chosen),
        f"each order, served {chosen['serving']}": _lines(same, "ordering", chosen),
    }
    ends = {row["name"]: row[METRIC] for row in block["systems"] if row["name"] in ("keep", "full")}
    rows = sorted(curves, key=lambda curve: -curve["auc"])
    cells = [
        [
            f"{curve['ordering']}, {curve['serving']}",
            f"{curve['auc']:.3f}",
            "yes" if curve["no_regret"] else "no",
            format_share(curve["fraction_to_keep"]),
            *map(format_share, curve["fraction_to_full"].values()),
        ]
        for curve in rows
    ]
    return Section(
        f"Backfilling curves, {format_direction(block['direction'])}",
        f"Quality while the gallery is mixed. {_describe(chosen)} It is the thick line, with its "
        "95 % interval: the recommended or best pair of order and serving. Lines that are the same "
        "share one entry in the legend.",
        figures.plot_curves(name, name_figure(block, METRIC), panels, ends),
        [Table(CURVE_COLUMNS, cells, rows.index(chosen), "Every order and serving", folded=True)],
        CURVE_TERMS,
    )


def _describe(curve: Document) -> str:
    """Say what a curve does, so that no sentence stands over one that does something else."""
    values, fractions = curve[METRIC], curve["fractions"]
    first, last = values[0], values[-1]
    ends = f"It begins at {first:.3f} and ends at {last:.3f}."
    name = f"The curve {curve['ordering']}, {curve['serving']}"
    top, low = (find(range(len(values)), key=values.__getitem__) for find in (max, min))
    if values[top] - values[low] < FLAT:
        return f"{name} is flat: re-encoding changes little. {ends}"
    if min(first, last) - values[low] >= FLAT:
        at = f"{values[low]:.3f} with {fractions[low]:.0%} re-encoded"
        return f"{name} is worst on the way, at {at}. {ends}"
    if values[top] - max(first, last) >= FLAT:
        at = f"{values[top]:.3f} with {fractions[top]:.0%} re-encoded"
        return f"{name} is best on the way, at {at}. {ends}"
    if last > first:
        return f"{name} rises as more points are re-encoded. {ends}"
    return f"{name} falls as more points are re-encoded. {ends}"


def _lines(curves: Sequence[Document], key: str, chosen: Document) -> list[Line]:
    """Return one line for all curves that cannot be told apart in the plot."""
    groups: list[list[Document]] = []
    for curve in curves:
        for group in groups:
            pairs = zip(group[0][METRIC], curve[METRIC], strict=True)
            if all(abs(a - b) < SAME for a, b in pairs):
                group.append(curve)
                break
        else:
            groups.append([curve])
    return [_line(group, key, chosen) for group in groups]


def _line(group: Sequence[Document], key: str, chosen: Document) -> Line:
    # The chosen curve lends the line its interval.
    curve = next((each for each in group if each is chosen), group[0])
    names = ", ".join(each[key] for each in group)
    return Line(
        f"{names} (AUC {curve['auc']:.3f})",
        curve["fractions"],
        curve[METRIC],
        curve["ci95"],
        bound=curve["ordering"] == ORACLE,
        chosen=curve is chosen,
        crossover=curve["fraction_to_keep"],
    )


def list_deployable(curves: Sequence[Document]) -> list[Document]:
    """Return the curves that a backfill can follow."""
    # The oracle knows every true error, so it is drawn as an upper bound and never recommended.
    return [curve for curve in curves if curve["ordering"] != ORACLE]


def find_recommended(block: Document) -> Document | None:
    """Return the curve that the recommendation is based on; None where it is not based on one."""
    advice = block.get("recommendation")
    if advice is None or advice["strategy"] is None:
        return None
    if not STRATEGIES[Strategy(advice["strategy"])].projects:
        return None
    fits = (
        curve
        for curve in list_deployable(block["curves"])
        if curve["serving"] == advice["serving"]
        and advice["ordering"] in (None, "", curve["ordering"])
    )
    return next(fits, None)


def format_direction(direction: str) -> str:
    """Format a direction such as "text->image" for people."""
    return direction.replace("->", " → ")


def name_figure(block: Document, metric: str) -> str:
    """Return the name of a figure; figures of a plan's sample get a prefix to tell them apart."""
    return f"{block.get('task', '')} {metric}".lstrip()


def format_share(fraction: float | None) -> str:
    """Write a share as a percentage; a dash for none."""
    return NONE if fraction is None else f"{fraction:.0%}"
