"""The page of a report: nothing from outside, nothing unescaped, every drawing sound."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from xbtmigrate.errors import ConfigError
from xbtmigrate.report import figures, page
from xbtmigrate.report.figures import GROUPS, Bar, Line, Offer
from xbtmigrate.report.page import Notice, ReportPage, Section, Table, Tile, render

NASTY = "</title><script>alert('1')</script> & <img src=http://example.org/x onerror=alert(2)>"
HALVES = [0.0, 0.5, 1.0]
SHAPE = {"edges": HALVES, **{group: [0.4, 0.6] for group in GROUPS}}
DRAWINGS = {
    "curves": lambda: figures.plot_curves(
        "curves",
        "recall@10",
        {
            "servings": [Line(NASTY, HALVES, [0.3, 0.5, 0.8], [[0.2, 0.4]] * 3, chosen=True)],
            "orders": [Line("oracle", HALVES, [0.3, 0.6, 0.8], bound=True)],
        },
        {"keep": 0.3, "full": 0.8},
    ),
    "cells": lambda: figures.plot_intervals(
        "cells",
        "recall@10",
        [Bar("keep", 0.3, [0.2, 0.4], None), Bar(NASTY, 0.5, [0.4, 0.6], better=True)],
        0.3,
    ),
    "offers": lambda: figures.plot_offers(
        "recall@10",
        [Offer("", 1.0, 0.3), Offer("", 3.0, 0.8)],
        [Offer("keep", 0.0, 0.3), Offer("full", 2.5, 0.8, chosen=True)],
    ),
    "estimate": lambda: figures.plot_error_estimate(
        {"predicted": HALVES, "true": HALVES, "low": HALVES, "high": HALVES}, 0.5
    ),
    "shapes": lambda: figures.plot_score_shapes(
        {"before": ("score", SHAPE), "after": ("log", SHAPE)}
    ),
}


def whole_page() -> str:
    drawings = [Section(NASTY, NASTY, draw()) for draw in DRAWINGS.values()]
    table = Table([NASTY, "b"], [[NASTY, "1"], ["x", NASTY]], marked=1)
    return render(
        ReportPage(
            title=NASTY,
            about=[(NASTY, NASTY)],
            headline=NASTY,
            reason=NASTY,
            tiles=[Tile(NASTY, NASTY, NASTY)],
            notices=[Notice("bad", NASTY)],
            sections=[
                *drawings,
                Section(
                    "table", NASTY, tables=[table], terms=[(NASTY, NASTY)], steps=[(NASTY, NASTY)]
                ),
            ],
        )
    )


class Elements(HTMLParser):
    """Every start tag with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_refers_to_nothing_outside_and_shows_text_as_text():
    html = whole_page()
    parsed = Elements()
    parsed.feed(html)
    names = {tag for tag, _ in parsed.found}
    assert names.isdisjoint({"script", "img", "iframe", "object", "form", "a"})
    for tag, attributes in parsed.found:
        assert not any(name.startswith("on") or name == "src" for name in attributes), tag
        assert (attributes.get("href") or "#").startswith(("#", "data:")), attributes
    assert "example.org" in html
    assert re.findall(r"url\((?!#)", html) == []
    assert "&lt;script&gt;" in html


def test_commands_in_a_sentence_are_shown_as_code():
    text = "Run `xbtmigrate verify`, then `xbtmigrate cutover`."
    shown = render(ReportPage("t", [], "h", text, [], [], []))
    assert (
        "<p>Run <code>xbtmigrate verify</code>, then <code>xbtmigrate cutover</code>.</p>" in shown
    )


def test_ids_are_unique_and_all_references_lead_somewhere():
    html = whole_page()
    ids = Counter(re.findall(r' id="([^"]+)"', html))
    assert max(ids.values()) == 1
    used = re.findall(r'(?:url\(#|href="#)([^")]+)', html)
    used += " ".join(re.findall(r'aria-labelledby="([^"]+)"', html)).split()
    assert used
    assert set(used) <= set(ids)


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_is_well_formed_described_and_coloured_by_the_page(name: str):
    wide, narrow = re.findall(r"<svg.*?</svg>", DRAWINGS[name](), re.DOTALL)
    for svg, width in ((wide, "wide"), (narrow, "narrow")):
        root = ElementTree.fromstring(svg)
        assert (root.get("class"), root.get("role")) == (width, "img")
        assert [child.tag for child in root][:2] == ["title", "desc"]
        assert all(child.text for child in list(root)[:2])
        assert root.findall(".//text")
        assert re.findall(r"(?:fill|stroke): ?#[0-9a-f]{3,6}", svg) == []
        assert "var(--series-1)" in svg or "var(--series-2)" in svg or "var(--series-3)" in svg


def test_a_missing_library_is_said_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(page, "find_spec", lambda name: None if name == "matplotlib" else name)
    with pytest.raises(ConfigError, match="matplotlib") as refused:
        page.require_libraries()
    assert "xbtmigrate[report]" in refused.value.hint
