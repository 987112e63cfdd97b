"""Show quality as tables that fit 80 columns, and say in plain words what they mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from xbtmigrate.cli import render
from xbtmigrate.evaluation.systems import BY_WORDS, name_group

METRICS = ("recall@1", "recall@10", "mrr@10")
DECIDES = "recall@10"
SHARES = (0.0, 0.1, 0.3, 0.5, 1.0)
BOUND = "oracle"
"""The order that uses the true error: no run can have it."""
COSTS = {
    "keep": "nothing",
    "bridge": "no point is embedded or written; queries are projected into the old space",
    "forward": "one vector is written for each of {points:,} points, and none is embedded",
    "fastfill": "one vector is written for each of {points:,} points, and {share:.0%} of them are "
    "embedded again",
    "full": "all {points:,} points are embedded again",
}
"""What each strategy costs, in words."""


class Row(NamedTuple):
    """Figures of one way to answer queries.

    Attributes:
        name: Strategy, and behind a colon the projector or serving.
        metrics: Mean of each metric.
        by_definition: Whether its answers count as right, so that its figures mean nothing.
        against_keep: "better", "worse" or "no difference".
        gap: Share of the way from keep to full; None where there is no gap.
        chosen: Whether it would be used; False for a projector that lost in training.
        estimated: Whether something stands for the old model, which is gone.
    """

    name: str
    metrics: Mapping[str, float]
    by_definition: bool
    against_keep: str
    gap: float | None = None
    chosen: bool = True
    estimated: bool = False

    @property
    def strategy(self) -> str:
        """Name of the strategy alone; another way to search as it is stands by itself."""
        return name_group(self.name)


def evaluated(content: Mapping[str, Any]) -> list[Row]:
    """Return the systems of an evaluation's document."""
    return [
        Row(
            system["name"],
            {name: system[name] for name in METRICS},
            system["by_definition"],
            system["against_keep"][DECIDES],
            system["gap_closed"][DECIDES],
            system["chosen"],
            system["estimated"],
        )
        for system in content["systems"]
    ]


def best_of_each(rows: Iterable[Row]) -> list[Row]:
    """Return one row of each strategy: of those that would be used, the one that finds most."""
    best: dict[str, Row] = {}
    for row in rows:
        known = best.get(row.strategy)
        if known is None or (row.chosen, row.metrics[DECIDES]) > (
            known.chosen,
            known.metrics[DECIDES],
        ):
            best[row.strategy] = row
    return list(best.values())


def show_systems(title: str, rows: Sequence[Row], *, every: bool) -> None:
    """Print the best row of each strategy, or every row that found anything."""
    fixed = ("keep", "full")
    told = [row for row in rows if row.name in fixed or any(row.metrics.values())]
    shown = told if every else best_of_each(told)
    render.table(title, ["", *METRICS, "against keep", "gap closed"], map(_cells, shown))
    _say_hidden(len(told) - len(shown), "row")


def show_curves(curves: Sequence[Mapping[str, Any]], *, every: bool) -> None:
    """Print quality by the share that is re-encoded: the best order of each serving, or all."""
    # `single` on top: what applications get that only switch the vector.
    ranked = sorted(curves, key=lambda each: (each["serving"] != "single", -each["auc"]))
    shown = ranked
    if not every:
        best: dict[str, Mapping[str, Any]] = {}
        for curve in ranked:
            if curve["ordering"] != BOUND:
                best.setdefault(curve["serving"], curve)
        shown = list(best.values())
    rows = [
        [
            curve["serving"],
            curve["ordering"],
            curve["auc"],
            _share(curve["fraction_to_keep"]),
            *(curve[DECIDES][curve["fractions"].index(share)] for share in SHARES),
        ]
        for curve in shown
    ]
    render.table(
        f"{DECIDES} by the share that is re-encoded",
        ["serving", "order", "mean", "keep\nat", *(f"{share:.0%}" for share in SHARES)],
        rows,
    )
    _say_hidden(len(ranked) - len(shown), "curve")


def in_words(rows: Sequence[Row], strategy: str | None, share: float, points: int) -> str:
    """Return what was found and what the recommended strategy costs, as a paragraph."""
    best = {row.strategy: row for row in best_of_each(rows)}
    keep = best["keep"]
    what = "by the old model, which is gone (keep, an estimate)"
    found = [f"{_part(keep)} {what if keep.estimated else 'by search as it is (keep)'}"]
    if not best["full"].by_definition:
        found.append(f"{_part(best['full'])} by the new model on every point (full)")
    words = [
        row for row in best.values() if row.strategy in BY_WORDS and row.against_keep == "better"
    ]
    between = [row for row in best.values() if row.strategy not in {"keep", "full", *BY_WORDS}]
    better = [row for row in between if row.against_keep == "better"]
    sentences = [f"Share of the right answers among the first ten ({DECIDES}): "]
    sentences[0] += ", ".join(found) + "."
    if better:
        top = max(better, key=lambda row: row.metrics[DECIDES])
        sentences.append(f"{top.name} reaches {_part(top)} and embeds no point again.")
    elif between:
        sentences.append("Nothing is better than keep that embeds no point again.")
    if words:
        top = max(words, key=lambda row: row.metrics[DECIDES])
        sentences.append(
            f"{top.name} reaches {_part(top)} without a new model: add a sparse vector first."
        )
    if strategy is not None:
        cost = COSTS[strategy].format(points=points, share=share)
        sentences.append(f"The cost of {strategy}: {cost}.")
    return " ".join(sentences)


def _cells(row: Row) -> list[object]:
    if row.by_definition:
        # Right by definition: any other figure, and any comparison, would mean nothing.
        given = ["1 by definition" if name == DECIDES else None for name in METRICS]
        return [row.name, *given, None, None]
    return [
        f"{row.name} (estimate)" if row.estimated else row.name,
        *(row.metrics[name] for name in METRICS),
        # Keep is not compared with itself, and closes nothing.
        None if row.name == "keep" else row.against_keep,
        None if row.gap is None or row.name == "keep" else f"{row.gap:.0%}",
    ]


def _say_hidden(count: int, what: str) -> None:
    if count:
        render.say(f"{count} more {what}{'' if count == 1 else 's'}: --all")
        render.say("")


def _share(fraction: float | None) -> str:
    return "never" if fraction is None else f"{fraction:.0%}"


def _part(row: Row) -> str:
    return f"{row.metrics[DECIDES]:.3f}"
