"""Turn a plot by matplotlib into inline SVG that follows the page's colours and width.

Matplotlib draws with stand-in colours that become CSS variables, so one drawing serves a light and
a dark page. Text stays text. Each drawing is made twice, for a wide and for a narrow page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Paint: TypeAlias = Callable[["Figure", int], None]
"""Draws into a figure with room for this many panels or columns side by side."""

# Almost black and all different, so that each can be replaced in the SVG by a variable.
INK, SOFT, GRID, PAPER = "#010101", "#010102", "#010103", "#010104"
SERIES = ("#010201", "#010202", "#010203", "#010204", "#010205", "#010206", "#010207", "#010208")

_VARIABLES = {INK: "ink", SOFT: "soft", GRID: "grid", PAPER: "paper"} | {
    color: f"series-{number}" for number, color in enumerate(SERIES, start=1)
}
_WIDTHS = {"wide": (7.4, 2), "narrow": (3.7, 1)}
"""Inches, and the columns that fit."""

_STYLE = {
    # Text instead of outlines: smaller, searchable, and in the page's font.
    "svg.fonttype": "none",
    # Names of models and fields may contain "$".
    "text.parse_math": False,
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.edgecolor": GRID,
    "axes.labelcolor": SOFT,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "text.color": INK,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "figure.facecolor": "none",
    "lines.linewidth": 1.6,
}


def draw(
    name: str, title: str, description: str, paint: Paint, heights: tuple[float, float]
) -> str:
    """Draw a plot twice, for wide and for narrow pages.

    Args:
        name: Unique on the page; letters only.
        title: What the drawing shows; read out by screen readers.
        description: Its content in a sentence; read out too.
        paint: Draws it.
        heights: Height on a wide and on a narrow page, in inches.

    Returns:
        Two `<svg>` elements, of which the page's style shows one.
    """
    return "\n".join(
        _inline(
            _render(f"{name}-{width}", paint, width, height),
            f"{name}-{width}",
            (title, description),
        )
        for width, height in zip(_WIDTHS, heights, strict=True)
    )


def _render(salt: str, paint: Paint, width: str, height: float) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # The salt fixes the ids that matplotlib draws at random: equal input gives an equal page, and
    # no id is used by two drawings.
    with mpl.rc_context({**_STYLE, "svg.hashsalt": salt}):
        inches, columns = _WIDTHS[width]
        # Not pyplot, which keeps every figure in a global list and chooses a backend for a screen.
        figure = Figure(figsize=(inches, height), layout="constrained")
        paint(figure, columns)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True)
    return stream.getvalue()


def _inline(svg: str, name: str, texts: tuple[str, str]) -> str:
    """Strip what only a file needs, replace the colours by variables, and add title and text."""
    box = re.search(r'viewBox="([^"]+)"', svg)
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    # The metadata hold the time, the style only what the page sets for itself.
    body = re.sub(
        r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL
    )
    body = body.replace("xlink:href", "href")
    # matplotlib gives most elements an id; only those of clip paths and markers are used.
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', body))
    body = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", body)
    body = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font-size: \1px", body)
    # The page defines each variable for light, dark and print.
    for color, variable in _VARIABLES.items():
        body = body.replace(color, f"var(--{variable})")
    width = name.rpartition("-")[2]
    title, description = map(escape, texts)
    return (
        f'<svg class="{width}" viewBox="{box[1] if box else ""}" role="img" '
        f'aria-labelledby="{name}-title {name}-text"><title id="{name}-title">{title}</title>'
        f'<desc id="{name}-text">{description}</desc>{body}'
    )
