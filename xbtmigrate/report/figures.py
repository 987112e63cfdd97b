"""Draw the plots of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xbtmigrate.report.drawing import GRID, INK, PAPER, SERIES, SOFT, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Dashes beside the colours, for readers who cannot tell these apart and for print.
DASHES = ("solid", (0, (5, 1.5)), (0, (2, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
BOUND = (0, (1, 1.5))
MARKS = "osD^vPX*"
MAX_LABEL = 34
GROUPS = {
    "right_waiting": ("right answer, not re-encoded", 0, "solid"),
    "right_encoded": ("right answer, re-encoded", 1, "solid"),
    "wrong_waiting": ("best wrong answer, not re-encoded", 0, BOUND),
    "wrong_encoded": ("best wrong answer, re-encoded", 1, BOUND),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One backfilling curve.

    Attributes:
        name: In the legend.
        fractions: Shares of re-encoded points, n.
        values: Quality at each, n.
        band: Low and high end of the interval at each, n; empty for none.
        bound: It knows the true error: a bound that no usable order reaches.
        chosen: It is the recommended one.
        crossover: Share from which it is at least as good as keep; None for none.
    """

    name: str
    fractions: Sequence[float]
    values: Sequence[float]
    band: Sequence[Sequence[float]] = ()
    bound: bool = False
    chosen: bool = False
    crossover: float | None = None


@dataclass(frozen=True, slots=True)
class Bar:
    """One system with its interval; `better` than keep, worse, or None if neither is shown."""

    name: str
    value: float
    interval: Sequence[float]
    better: bool | None


@dataclass(frozen=True, slots=True)
class Offer:
    """Working time and quality of one strategy."""

    name: str
    hours: float
    value: float
    chosen: bool = False


def plot_curves(
    name: str, metric: str, panels: Mapping[str, Sequence[Line]], ends: Mapping[str, float]
) -> str:
    """Plot quality against the share of re-encoded points, one panel for each group of lines.

    Args:
        name: Unique on the page.
        metric: Label of the quality.
        panels: Title -> lines.
        ends: Levels to compare with, such as those of keep and full.
    """

    def paint(figure: Figure, columns: int) -> None:
        shape = (len(panels), 1) if columns == 1 else (1, len(panels))
        axes = figure.subplots(*shape, sharey=columns > 1, squeeze=False).ravel()
        for place, (ax, (title, lines)) in enumerate(zip(axes, panels.items(), strict=True)):
            _levels(ax, ends)
            for number, line in enumerate(lines):
                _curve(ax, line, number)
                # At 0 nothing is crossed: the curve begins at or above keep.
                if line.crossover and "keep" in ends:
                    _cross(ax, line.crossover, ends["keep"], label=line.chosen)
            ax.set(title=title, xlabel="share of points re-encoded", xlim=(0, 1))
            if columns == 1 or not place:
                ax.set_ylabel(metric)
            ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
            ax.legend(loc="upper left", bbox_to_anchor=(0, -0.24), handlelength=2.6)

    # The same figures as text, read out by screen readers.
    said = "; ".join(
        f"{line.name}: {line.values[0]:.3f} at first, {line.values[-1]:.3f} at the end"
        for lines in panels.values()
        for line in lines
    )
    depth = 3.0 + 0.19 * max(map(len, panels.values()))
    return draw(name, "Backfilling curves", said, paint, (depth, (2.6 + 0.8) * len(panels) + 0.4))


def plot_intervals(name: str, metric: str, bars: Sequence[Bar], keep: float) -> str:
    """Plot every system with its 95 % interval, against keep."""

    def paint(figure: Figure, _columns: int) -> None:
        ax = figure.subplots()
        ax.axvline(keep, color=SOFT, linewidth=1, linestyle=BOUND)
        # matplotlib counts rows from below, and the first bar belongs at the top.
        for row, bar in enumerate(reversed(bars)):
            color = SOFT if bar.better is None else SERIES[2] if bar.better else SERIES[1]
            ax.plot(bar.interval, [row, row], color=color, linewidth=2.4, alpha=0.55)
            ax.plot(bar.value, row, "o", color=color, markersize=5.5)
        ax.set(yticks=range(len(bars)), xlabel=f"{metric}, 95 % interval")
        ax.set_yticklabels([_short(bar.name) for bar in reversed(bars)], color=INK)
        ax.set_ylim(-0.6, len(bars) - 0.4)
        ax.tick_params(axis="y", length=0)
        ax.grid(visible=False, axis="y")

    said = "; ".join(
        f"{b.name} {b.value:.3f} ({b.interval[0]:.3f} to {b.interval[1]:.3f})" for b in bars
    )
    height = 0.75 + 0.27 * len(bars)
    return draw(name, "Quality of each system", said, paint, (height, height + 0.2))


def plot_offers(metric: str, path: Sequence[Offer], points: Sequence[Offer]) -> str:
    """Plot quality against working time: strategies, and the way through a partial backfill."""
    longest = max(offer.hours for offer in (*path, *points))
    units = {"hours": 1.0, "minutes": 60.0, "seconds": 3600.0}
    # The largest unit in which the longest time is at least 2, to avoid axes from 0 to 0.3.
    unit = next((name for name, scale in units.items() if longest * scale >= 2), "seconds")
    scale = units[unit]

    def paint(figure: Figure, columns: int) -> None:
        ax = figure.subplots()
        way = [offer.hours * scale for offer in path]
        ax.plot(way, [offer.value for offer in path], color=SERIES[0], marker=".", zorder=2)
        for number, offer in enumerate(points):
            ax.plot(
                offer.hours * scale,
                offer.value,
                MARKS[number % len(MARKS)],
                color=SERIES[0] if offer.chosen else INK,
                markersize=11 if offer.chosen else 7,
                markeredgecolor=PAPER,
                label=f"{offer.name}: {offer.value:.3f}",
                zorder=3,
                # A mark at the edge, such as `keep` at 0 hours, stays whole.
                clip_on=False,
            )
        ax.set(xlabel=f"working time in {unit}", ylabel=metric)
        ax.set_xlim(left=0)
        ax.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=columns)

    said = "; ".join(f"{p.name} {p.value:.3f} after {p.hours * scale:.2f} {unit}" for p in points)
    rows = 0.2 * len(points)
    return draw("offers", "Cost against quality", said, paint, (2.9 + rows / 2, 2.9 + rows))


def plot_error_estimate(found: Mapping[str, Sequence[float]], correlation: float) -> str:
    """Plot the true error of projected vectors against the predicted one."""

    def paint(figure: Figure, _columns: int) -> None:
        ax = figure.subplots()
        ax.fill_between(
            found["predicted"], found["low"], found["high"], color=SERIES[0], alpha=0.18, lw=0,
            label="10 to 90 % of the points",
        )  # fmt: skip
        ax.plot(found["predicted"], found["true"], color=SERIES[0], marker=".", label="mean")
        # The line where predicted and true error are equal.
        ends = [min(found["predicted"]), max(found["predicted"])]
        ax.plot(ends, ends, color=SOFT, linestyle=BOUND, linewidth=1, label="perfect prediction")
        ax.set(xlabel="predicted distance (sigma)", ylabel="true distance")
        ax.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=1)

    said = f"Rank correlation {correlation:.2f}; the true distance rises from " + (
        f"{found['true'][0]:.3f} to {found['true'][-1]:.3f}"
    )
    return draw("estimate", "Predicted and true error", said, paint, (3.6, 3.5))


def plot_score_shapes(stages: Mapping[str, tuple[str, Mapping[str, Sequence[float]]]]) -> str:
    """Plot distributions of scores, a panel for each stage: title -> axis label, histograms."""

    def paint(figure: Figure, columns: int) -> None:
        shape = (len(stages), 1) if columns == 1 else (1, len(stages))
        axes = figure.subplots(*shape, squeeze=False).ravel()
        for ax, (title, (label, found)) in zip(axes, stages.items(), strict=True):
            for group, (text, color, dash) in GROUPS.items():
                ax.stairs(
                    found[group], found["edges"], color=SERIES[color], ls=dash, lw=1.5, label=text
                )
            ax.set(title=title, xlabel=label, yticks=[], ylim=(0, None))
            ax.spines["left"].set_color(GRID)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=columns)

    said = "Shares of the queries by score, for right and best wrong answers in both states"
    return draw("shapes", "Scores before and after calibration", said, paint, (3.2, 5.6))


def _short(name: str) -> str:
    return name if len(name) <= MAX_LABEL else f"{name[: MAX_LABEL - 1]}…"


def _levels(ax: Axes, ends: Mapping[str, float]) -> None:
    for name, value in ends.items():
        ax.axhline(value, color=SOFT, linewidth=1, linestyle=BOUND)
        # The best level is labelled above its line on the left, the others below on the
        # right, where the curves leave room.
        above = value == max(ends.values())
        ax.annotate(
            f"{name} {value:.3f}",
            (0 if above else 1, value),
            xycoords=("axes fraction", "data"),
            xytext=(3, 2) if above else (-3, -3),
            textcoords="offset points",
            ha="left" if above else "right",
            va="bottom" if above else "top",
            color=SOFT,
            fontsize=8.5,
        )


def _cross(ax: Axes, share: float, level: float, *, label: bool) -> None:
    ax.plot(share, level, "o", color=INK, markerfacecolor="none", markersize=7, zorder=4)
    if label:
        ax.annotate(
            f"crossover {share:.0%}",
            (share, level),
            xytext=(6, 8),
            textcoords="offset points",
            ha="left" if share < 0.6 else "right",
            fontsize=8.5,
        )


def _curve(ax: Axes, line: Line, number: int) -> None:
    color = SERIES[number % len(SERIES)]
    if line.band and line.chosen:
        low, high = zip(*line.band, strict=True)
        ax.fill_between(line.fractions, low, high, color=color, alpha=0.15, lw=0)
    ax.plot(
        line.fractions,
        line.values,
        color=color,
        linestyle="solid" if line.chosen else BOUND if line.bound else DASHES[number % len(DASHES)],
        linewidth=2.6 if line.chosen else 1.5,
        label=_short(line.name),
    )
