"""Build the report page from the documents of `evaluate` and `plan`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import xbtmigrate
from xbtmigrate.documents.next_step import NextDocument
from xbtmigrate.errors import ConfigError
from xbtmigrate.files import write_atomically
from xbtmigrate.migration.phases import utc_now
from xbtmigrate.migration.plan import Cost
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.qdrant.collection.facts import CollectionFacts
from xbtmigrate.report.page import Notice, ReportPage, Tile, render, require_libraries
from xbtmigrate.types import Strategy
from xbtmigrate.workflows.evaluate.report_curves import (
    Document,
    find_recommended,
    format_direction,
    name_figure,
)
from xbtmigrate.workflows.evaluate.report_sections import (
    estimate_hours,
    format_hours,
    make_sections,
    place,
)
from xbtmigrate.workflows.evaluate.results import METRIC


def check_page(path: Path) -> None:
    """Raise if the report cannot be written; called before anything is measured.

    Raises:
        ConfigError: There is no such folder, or a library is missing.
    """
    # An evaluation can take long, and should not fail at its last step.
    require_libraries()
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ConfigError(
            f"the report cannot be written to {path}", "name a file in a folder that exists"
        )


def write_page(
    path: Path,
    facts: CollectionFacts,
    content: Document,
    costs: Sequence[Cost],
    following: NextDocument,
) -> None:
    """Write the report.

    Args:
        path: The file.
        facts: The collection.
        content: The document of `evaluate`.
        costs: What each strategy takes; empty where there is no plan.
        following: The next command.
    """
    page = ReportPage(
        title=f"{facts.collection}: moving {facts.size}-d '{facts.vector}' to the new model",
        about=[
            ("points", f"{facts.points:,}"),
            ("queries", f"{content['query_count']:,}, {format_direction(content['direction'])}"),
            ("searched in", f"{content['gallery_count']:,}"),
            ("from", content["basis"]),
            ("measured", f"{utc_now()}, xbtmigrate {xbtmigrate.__version__}"),
        ],
        headline=_headline(content["recommendation"]),
        reason=_sentence(content["recommendation"]["reason"]),
        tiles=_tiles(content, costs),
        notices=_notices(content),
        sections=make_sections(content, costs, following),
    )
    text = render(page)
    write_atomically(path, lambda file: file.write_text(text, "utf-8"))


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _headline(advice: Document) -> str:
    # Made queries give figures, but no recommendation.
    if advice["strategy"] is None:
        return "No recommendation yet: write judged queries"
    spec = STRATEGIES[Strategy(advice["strategy"])]
    share, ordering = f"{advice['fraction']:.0%}", advice["ordering"]
    headline = spec.headline.format(share=share, ordering=ordering)
    if spec.is_partial:
        return f"{headline}, and serve them {advice['serving']}"
    # `single` is plain search in the new space and is not mentioned.
    fused = spec.projects and advice["serving"] != "single"
    return f"{headline}, serve them {advice['serving']}" if fused else headline


def _tiles(content: Document, costs: Sequence[Cost]) -> list[Tile]:
    """Return the tiles: keep, the recommended move, full, the share to stay above keep, time."""
    systems, advice = {row["name"]: row for row in content["systems"]}, content["recommendation"]
    name = name_figure(content, METRIC)
    tiles = [_quality("keep the old model", name, systems["keep"])]
    curve = find_recommended(content)
    if curve is not None:
        at = place(curve, advice["fraction"])
        low, high = curve["ci95"][at]
        tiles.append(
            Tile("recommended", f"{curve[METRIC][at]:.3f}", f"{name}; {low:.3f} to {high:.3f}")
        )
    tiles.append(_quality("re-encode everything", name, systems["full"]))
    if curve is not None:
        # A mixed gallery can be worse than keep half-way although both its ends are better.
        word = "yes" if curve["no_regret"] else "no"
        tiles.append(Tile("never below keep", word, "at any share"))
    chosen = advice["strategy"]
    time = None if chosen is None else estimate_hours(costs, chosen, advice["fraction"])
    if time is not None and chosen != Strategy.KEEP:
        tiles.append(Tile("working time", format_hours(time), "estimated by the plan"))
    return tiles


def _quality(name: str, figure: str, row: Document) -> Tile:
    if row["by_definition"]:
        return Tile(name, "-", f"{figure} is 1 by definition")
    low, high = row["ci95"][METRIC]
    return Tile(name, f"{row[METRIC]:.3f}", f"{figure}; {low:.3f} to {high:.3f}")


def _notices(content: Document) -> list[Notice]:
    gates = [
        Notice(
            "good" if gate["met"] else "bad",
            f"Gate {gate['gate']} on {gate['strategy']}: {'met' if gate['met'] else 'not met'}, "
            f"{gate['value']:.3f} against {gate['level']:.3f}.",
        )
        for gate in content["gates"]
    ]
    return [*gates, *(Notice("note", _sentence(text)) for text in content["warnings"])]
