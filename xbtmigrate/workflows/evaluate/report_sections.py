"""Build the sections of a report, each with its plot and its figures."""

from __future__ import annotations

from collections.abc import Sequence

from xbtmigrate.documents.next_step import NextDocument
from xbtmigrate.evaluation.systems import name_group
from xbtmigrate.migration.plan import Cost
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.report import figures
from xbtmigrate.report.figures import Bar, Offer
from xbtmigrate.report.page import Section, Table
from xbtmigrate.types import Strategy
from xbtmigrate.workflows.evaluate.report_curves import (
    NONE,
    Document,
    curve_section,
    find_recommended,
    format_direction,
    format_share,
    list_deployable,
    name_figure,
)
from xbtmigrate.workflows.evaluate.report_next import what_next
from xbtmigrate.workflows.evaluate.results import METRIC

SHOWN = ("recall@1", "recall@5", "recall@10", "mrr@10", "ndcg@10", "map@100")
BRIEF = ("recall@1", METRIC, "mrr@10")
MIN_DRAWN = 0.005
"""Figures below it are 0.00 at the digits of an axis."""
MIN_SECONDS = 60.0
"""Where nothing takes longer, working time decides nothing."""
GAP = ["gap closed"]
_METRIC_TERMS = [
    (METRIC, "share of the right answers among the first ten hits, 0 to 1"),
    ("mrr@10", "mean of 1 / rank of the first right answer within ten"),
    ("lost", "queries that keep answers within the first ten hits and the system does not"),
]
_GAP_TERM = [("gap closed", "share of the way from keep (0 %) to full (100 %)")]
BETTER = {"better": True, "worse": False, "no difference": None}


def make_sections(
    content: Document, costs: Sequence[Cost], following: NextDocument
) -> list[Section]:
    """Return the sections of an `evaluate` document; further directions, then what to do next."""
    found = [_cells(content, "cells"), curve_section(content, "curves")]
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
        found += [_cells(block, f"cells{number}"), curve_section(block, f"curves{number}")]
    return [*found, what_next(content["recommendation"], following)]


def _cells(block: Document, name: str) -> Section:
    """Plot and list the best system of each strategy, and fold all of them with every figure."""
    # `results` sorts the systems, keep first.
    rows, keep = block["systems"], block["systems"][0]
    best = _best_of_each(rows)
    # A bar at 0.00 shows nothing, and would stretch the axis until the others touch.
    drawn = [row for row in best if row[METRIC] >= MIN_DRAWN]
    bars = [
        Bar(
            f"{row['name']}, by definition" if row["by_definition"] else row["name"],
            row[METRIC],
            row["ci95"][METRIC],
            None if row["by_definition"] else BETTER[row["against_keep"][METRIC]],
        )
        for row in drawn
    ]
    # Without a gap between keep and full there is no share of it.
    gap = any(row["gap_closed"][METRIC] is not None for row in rows)
    cells = [
        [
            _named(row),
            *(_figure(row, metric) for metric in BRIEF),
            _verdict(row, keep),
            *([format_share(row["gap_closed"][METRIC])] if gap else []),
            f"{row['negative_flips']:.1%}",
        ]
        for row in best
    ]
    every = [[_named(row), *(_figure(row, metric) for metric in SHOWN)] for row in rows]
    lost = "".join(f" {row['name']} finds next to nothing." for row in best if row not in drawn)
    return Section(
        f"Quality before anything is re-encoded, {format_direction(block['direction'])}",
        "Each system answers the same queries; of each strategy the best one is shown. Green is "
        "better than keeping the old model, orange worse; grey cannot be told apart from it. Full "
        f"is the new model on a fully re-encoded gallery.{lost}",
        figures.plot_intervals(name, name_figure(block, METRIC), bars, keep[METRIC]),
        [
            Table(["query/gallery", *BRIEF, "against keep", *GAP[:gap], "lost"], cells),
            Table(["query/gallery", *SHOWN], every, title="Every system and figure", folded=True),
        ],
        [*_METRIC_TERMS, *(_GAP_TERM[:gap]), *_sample_term(block)],
    )


def _best_of_each(rows: Sequence[Document]) -> list[Document]:
    best: dict[str, Document] = {}
    for row in rows:
        known = best.setdefault(name_group(row["name"]), row)
        if (row["chosen"], row[METRIC]) > (known["chosen"], known[METRIC]):
            best[name_group(row["name"])] = row
    return list(best.values())


def _named(row: Document) -> str:
    return f"{row['name']} (estimate)" if row["estimated"] else str(row["name"])


def _figure(row: Document, metric: str) -> str:
    return NONE if row["by_definition"] else f"{row[metric]:.3f}"


def _sample_term(block: Document) -> list[tuple[str, str]]:
    if not block.get("task"):
        return []
    text = "figures of this page are of a sample of the points, so they are higher than in all"
    return [(block["task"], text)]


def _verdict(row: Document, keep: Document) -> str:
    if row["name"] == keep["name"]:
        return NONE
    if row["by_definition"]:
        return "1 by definition"
    return f"{row['against_keep'][METRIC]} (p = {row['p_value'][METRIC]:.2g})"


def _offers(content: Document, costs: Sequence[Cost]) -> Section:
    """Plot every strategy and the recommended curve against the plan's estimate of the time."""
    advice, curves = content["recommendation"], content["curves"]
    curve = find_recommended(content) or max(list_deployable(curves), key=lambda each: each["auc"])
    best: dict[str, float] = {}
    # All kinds of one strategy cost the same, so its best one is drawn. Other rows are none.
    for row in content["systems"]:
        strategy = name_group(row["name"])
        if strategy in STRATEGIES and row["chosen"]:
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
    text = (
        "What each strategy takes on this machine by the plan's estimate, and what it brings. The "
        f"line is a partial backfill in {curve['ordering']} order, served {curve['serving']}, "
        "from nothing to everything re-encoded."
    )
    figure = ""
    if max(offer.hours for offer in (*path, *points)) * 3600 < MIN_SECONDS:
        text = "Every strategy takes less than a minute here, so time does not decide."
    else:
        figure = figures.plot_offers(name_figure(content, METRIC), path, points)
    cells = [
        [
            cost.strategy.value,
            f"{cost.encodes:,}",
            f"{cost.writes:,}",
            format_hours(cost.seconds / 3600),
            NONE if cost.money is None else f"{cost.money:,.2f}",
        ]
        for cost in costs
    ]
    table = Table(["strategy", "embedded", "vectors written", "time", "money"], cells)
    return Section("Cost against quality", text, figure, [table])


def _estimate(found: Document) -> Section:
    correlation = found["rank_correlation"]
    return Section(
        "Predicted and true error of the projected vectors",
        "The order of re-encoding relies on the predicted distance of each projected vector from "
        f"the true one. Its rank correlation with the true distance is {correlation:.2f} (1 is "
        "perfect, 0 is chance).",
        figures.plot_error_estimate(found, correlation),
        terms=[("sigma", "how far from the true vector the projector itself expects to be")],
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
    tables = [
        Table(
            ["query", "rank by keep", "rank after"],
            [
                [example["query"], *(str(example[key] or "> 10") for key in ("before", "after"))]
                for example in found[key]
            ],
            title=title,
        )
        for title, key in (("Lost by the move", "lost"), ("Won by the move", "gained"))
        if found[key]
    ]
    return Section(
        "Queries that change sides",
        "Some of the queries that only one side answers within the first 10: keep, and the "
        "recommended move (full, where keep is recommended). xbtmigrate compare shows the hits "
        "of both.",
        tables=tables,
    )


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
