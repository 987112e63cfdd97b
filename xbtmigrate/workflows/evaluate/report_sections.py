"""Build the sections of a report, each with its plot and its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from xbtmigrate.migration.plan import Cost
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.report import figures
from xbtmigrate.report.figures import Bar, Line, Offer
from xbtmigrate.report.page import Section, Table
from xbtmigrate.types import Strategy
from xbtmigrate.workflows.evaluate.experiment import ORACLE
from xbtmigrate.workflows.evaluate.results import METRIC

Document: TypeAlias = Mapping[str, Any]

SHOWN = ("recall@1", "recall@5", "recall@10", "mrr@10", "ndcg@10", "map@100")
NONE = "-"
BETTER = {"better": True, "worse": False, "no difference": None}


def make_sections(content: Document, costs: Sequence[Cost]) -> list[Section]:
    """Return the sections of an `evaluate` document, further directions last."""
    found = [_cells(content, "cells"), _curves(content, "curves")]
    if costs:
        found.append(_offers(content, costs))
    # Blocks that were not measured are missing from the document's plots, not shown empty.
    if content["error_estimate"] is not None:
        found.append(_estimate(content["error_estimate"]))
    if content["scores"] is not None:
        found.append(_shapes(content["scores"]))
    if any(content["examples"].values()):
        found.append(_examples(content["examples"]))
    for number, block in enumerate(content["directions"]):
        found += [_cells(block, f"cells{number}"), _curves(block, f"curves{number}")]
    return found


def _cells(block: Document, name: str) -> Section:
    # `results` sorts the systems, keep first.
    rows, keep = block["systems"], block["systems"][0]
    bars = [
        Bar(
            f"{row['name']}, by definition" if row["by_definition"] else row["name"],
            row[METRIC],
            row["ci95"][METRIC],
            None if row["by_definition"] else BETTER[row["against_keep"][METRIC]],
        )
        for row in rows
    ]
    cells = [
        [
            row["name"],
            *(NONE if row["by_definition"] else f"{row[metric]:.3f}" for metric in SHOWN),
            _verdict(row, keep),
            NONE if row["gap_closed"][METRIC] is None else f"{row['gap_closed'][METRIC]:.0%}",
            f"{row['negative_flips']:.1%}",
        ]
        for row in rows
    ]
    measured = [name_figure(block, metric) for metric in SHOWN]
    columns = ["query/gallery", *measured, "against keep", "gap closed", "lost"]
    return Section(
        f"Quality before anything is re-encoded, {format_direction(block['direction'])}",
        "Each system answers the same queries. Green is better than keeping the old model, orange "
        "worse; grey cannot be told apart from it. Full is the new model on a fully re-encoded "
        "gallery. Lost queries are those that keep answers within the first 10 and the system "
        "does not.",
        figures.plot_intervals(name, name_figure(block, METRIC), bars, keep[METRIC]),
        Table(columns, cells),
    )


def _verdict(row: Document, keep: Document) -> str:
    if row["name"] == keep["name"]:
        return NONE
    if row["by_definition"]:
        return "1 by definition"
    return f"{row['against_keep'][METRIC]} (p = {row['p_value'][METRIC]:.2g})"


def name_figure(block: Document, metric: str) -> str:
    """Return the name of a figure; figures of a plan's sample get a prefix to tell them apart."""
    return f"{block.get('task', '')} {metric}".lstrip()


def _curves(block: Document, name: str) -> Section:
    """Plot the best order of each serving, and every order of the best serving."""
    curves = block["curves"]
    # A recommendation of keep, bridge or full has no curve; then the best one is highlighted.
    chosen = find_recommended(block) or max(_deployable(curves), key=lambda curve: curve["auc"])
    servings = dict.fromkeys(curve["serving"] for curve in curves)
    best = [
        max(
            (c for c in _deployable(curves) if c["serving"] == serving),
            # The recommended curve stays, even where another order has a larger AUC.
            key=lambda c: (c is chosen, c["auc"]),
        )
        for serving in servings
    ]
    same = [curve for curve in curves if curve["serving"] == chosen["serving"]]
    panels = {
        "each serving, by its best order": [_line(c, "serving", chosen) for c in best],
        f"each order, served {chosen['serving']}": [_line(c, "ordering", chosen) for c in same],
    }
    ends = {row["name"]: row[METRIC] for row in block["systems"] if row["name"] in ("keep", "full")}
    rows = sorted(curves, key=lambda curve: -curve["auc"])
    return Section(
        f"Backfilling curves, {format_direction(block['direction'])}",
        "Quality while the gallery is mixed: it approaches full as more points are re-encoded. The "
        "thick line is the recommended or best pair of order and serving, with its "
        "95 % interval. The oracle order uses the true error of every projection; it is an upper "
        "bound, not a choice.",
        figures.plot_curves(name, name_figure(block, METRIC), panels, ends),
        Table(
            ["order, serving", "AUC", "no regret", "keep at", "90 % of full", "95 %", "98 %"],
            [
                [
                    f"{curve['ordering']}, {curve['serving']}",
                    f"{curve['auc']:.3f}",
                    "yes" if curve["no_regret"] else "no",
                    *(
                        NONE if f is None else f"{f:.0%}"
                        for f in (
                            curve["fraction_to_keep"],
                            *curve["fraction_to_full"].values(),
                        )
                    ),
                ]
                for curve in rows
            ],
            marked=rows.index(chosen),
        ),
        folded=True,
    )


def _line(curve: Document, key: str, chosen: Document) -> Line:
    return Line(
        f"{curve[key]} (AUC {curve['auc']:.3f})",
        curve["fractions"],
        curve[METRIC],
        curve["ci95"],
        bound=curve["ordering"] == ORACLE,
        chosen=curve is chosen,
    )


def _offers(content: Document, costs: Sequence[Cost]) -> Section:
    """Plot every strategy and the recommended curve against the plan's estimate of the time."""
    advice, curves = content["recommendation"], content["curves"]
    curve = find_recommended(content) or max(_deployable(curves), key=lambda each: each["auc"])
    best: dict[str, float] = {}
    # All kinds of one strategy cost the same, so its best one is drawn; a fusion is no strategy.
    for row in content["systems"]:
        strategy = row["name"].partition(":")[0]
        if strategy != "fusion" and row["chosen"]:
            best[strategy] = max(best.get(strategy, 0.0), row[METRIC])
    points = [
        Offer(name, estimate_hours(costs, name, 0.0) or 0.0, value, name == advice["strategy"])
        for name, value in best.items()
    ]
    steps = list(zip(curve["fractions"], curve[METRIC], strict=True))
    path = [
        Offer("", estimate_hours(costs, Strategy.FASTFILL, f) or 0.0, value) for f, value in steps
    ]
    if advice["strategy"] == Strategy.FASTFILL:
        at = place(curve, advice["fraction"])
        name = f"fastfill, {curve['fractions'][at]:.0%} re-encoded"
        # Before `full`, which comes last.
        points.insert(-1, Offer(name, path[at].hours, path[at].value, chosen=True))
    return Section(
        "Cost against quality",
        "The time of each strategy on this machine, as the plan estimates it, and its quality. The "
        f"line is a partial backfill in {curve['ordering']} order, served {curve['serving']}, "
        "from nothing to everything re-encoded.",
        figures.plot_offers(name_figure(content, METRIC), path, points),
        Table(
            ["strategy", "embedded", "vectors written", "time", "money"],
            [
                [
                    cost.strategy.value,
                    f"{cost.encodes:,}",
                    f"{cost.writes:,}",
                    format_hours(cost.seconds / 3600),
                    NONE if cost.money is None else f"{cost.money:,.2f}",
                ]
                for cost in costs
            ],
        ),
    )


def _estimate(found: Document) -> Section:
    correlation = found["rank_correlation"]
    return Section(
        "Predicted and true error of the projected vectors",
        "The order of re-encoding relies on the predicted distance of each projected vector from "
        f"the true one. Its rank correlation with the true distance is {correlation:.2f} (1 is "
        "perfect, 0 is chance).",
        figures.plot_error_estimate(found, correlation),
    )


def _shapes(found: Document) -> Section:
    return Section(
        "Scores before and after calibration",
        "Re-encoded and waiting points are scored in different spaces. Left: raw scores; where "
        "the two colours lie apart, merging favours one state for every query. Right: after "
        "calibration, right answers should lie to the right of wrong ones, and both states should "
        "look alike.",
        figures.plot_score_shapes(
            {
                "before: raw scores": ("score", found["raw"]),
                "after: calibrated": ("log-probability of being the answer", found["calibrated"]),
            }
        ),
    )


def _examples(found: Document) -> Section:
    rows = [
        [example["query"], *(str(example[key] or "> 10") for key in ("before", "after")), word]
        for word, key in (("lost", "lost"), ("won", "gained"))
        for example in found[key]
    ]
    return Section(
        "Queries that only one side answers",
        "Some of the queries that only one side answers within the first 10: keep, and the "
        "recommended move (full, where keep is recommended).",
        table=Table(["query", "rank by keep", "rank after", ""], rows),
    )


def _deployable(curves: Sequence[Document]) -> list[Document]:
    # The oracle knows every true error, so it is drawn as an upper bound and never recommended.
    return [curve for curve in curves if curve["ordering"] != ORACLE]


def format_direction(direction: str) -> str:
    """Format a direction such as "text->image" for people."""
    return direction.replace("->", " → ")


def find_recommended(block: Document) -> Document | None:
    """Return the curve that the recommendation is based on; None where it is not based on one."""
    advice = block.get("recommendation")
    if advice is None or advice["strategy"] is None:
        return None
    if not STRATEGIES[Strategy(advice["strategy"])].projects:
        return None
    fits = (
        curve
        for curve in _deployable(block["curves"])
        if curve["serving"] == advice["serving"]
        and advice["ordering"] in (None, "", curve["ordering"])
    )
    return next(fits, None)


def place(curve: Document, fraction: float) -> int:
    """Return the index of the first measured fraction that is at least `fraction`."""
    # The recommended fraction is interpolated between measured ones; 1e-9 absorbs rounding.
    return next(i for i, each in enumerate(curve["fractions"]) if each >= fraction - 1e-9)


def estimate_hours(costs: Sequence[Cost], strategy: str, fraction: float) -> float | None:
    """Return the estimated working time in hours; None without a plan."""
    seconds = {cost.strategy: cost.seconds for cost in costs}
    if not seconds:
        return None
    # All points are projected first, then a part is encoded.
    if STRATEGIES[Strategy(strategy)].is_partial:
        return (seconds[Strategy.FORWARD] + fraction * seconds[Strategy.FULL]) / 3600
    return seconds[Strategy(strategy)] / 3600


def format_hours(hours: float) -> str:
    """Format hours in a unit that a person reads."""
    if hours < 1.5 / 60:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours < 2 else f"{hours:.1f} h"
