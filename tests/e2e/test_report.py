"""The reports of `plan` and `evaluate`, looked at with a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.clipart import Clipart, make_judged_folder
from tests.support.command import answer, xbtmigrate

COUNT = 300
PAGES = ["plan.html", "report.html"]
PHONE, DESK = {"width": 360, "height": 780}, {"width": 1100, "height": 900}

CONTRASTS = """() => {
  const parse = text => {
    const found = text.match(/[\\d.]+/g).map(Number);
    return found.length === 3 ? [...found, 1] : found;
  };
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = node => {
    for (let at = node; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color[3] > 0) return color;
    }
    return [255, 255, 255, 1];
  };
  const found = [];
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some(c => c.nodeType === 3 && c.textContent.trim());
    if (!own || ['TITLE', 'DESC', 'STYLE'].includes(node.tagName.toUpperCase())) continue;
    if (!node.getClientRects().length) continue;
    const style = getComputedStyle(node);
    const [a, b] = [light(parse(node instanceof SVGElement ? style.fill : style.color)),
                    light(behind(node))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), node.textContent.trim().slice(0, 40)]);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the reports of a plan and of an evaluation by text and image queries."""
    folder = tmp_path_factory.mktemp("report")
    make_judged_folder(folder, Clipart.load(COUNT), 80, images_from=40)
    answer("plan", "--report", "plan.html", cwd=folder)
    answer("train-projector", "--kind", "procrustes,ridge", cwd=folder)
    answer("evaluate", "--report", "report.html", "--gate", "recall@10>=0.01", cwd=folder)
    return folder


def test_the_reports_hold_every_finding(reports: Path):
    for name in PAGES:
        text = (reports / name).read_text("utf-8")
        for title in (
            "Quality before anything is re-encoded",
            "Backfilling curves",
            "Cost against quality",
            "Predicted and true error",
            "Scores before and after calibration",
            "What to do next",
        ):
            assert title in text, (name, title)
        assert "http:" not in text
        assert "https:" not in text
    assert "text → image" in text
    assert "image → image" in text
    assert "Gate recall@10&gt;=0.01" in text


@pytest.mark.parametrize("arguments", [["plan"], ["evaluate"]])
def test_a_report_that_cannot_be_written_is_refused_first(reports: Path, arguments: list[str]):
    refused = xbtmigrate(*arguments, "--report", "absent/x.html", cwd=reports, expect=2)
    assert "absent/x.html" in refused.stderr
    assert "reading the collection" not in refused.stderr


@pytest.mark.long
@pytest.mark.parametrize("name", PAGES)
def test_a_report_is_whole_by_itself_and_legible_in_both_schemes(
    reports: Path, browser: Any, name: str
):
    address = (reports / name).as_uri()
    shots = {}
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme, viewport=DESK)
        asked, said = [], []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.on("console", lambda message, said=said: said.append(message.text))
        page.on("pageerror", lambda error, said=said: said.append(str(error)))
        page.goto(address)
        contrasts = page.evaluate(CONTRASTS)
        shots[scheme] = page.screenshot()
        page.close()
        assert [url for url in asked if not url.startswith("data:")] == [address]
        assert said == []
        assert len(contrasts) > 100
        assert [each for each in contrasts if each[0] < 4.5] == []
    assert shots["light"] != shots["dark"]


@pytest.mark.long
@pytest.mark.parametrize("name", PAGES)
def test_a_report_fits_a_phone_and_prints_as_on_a_desk(reports: Path, browser: Any, name: str):
    page = browser.new_page(viewport=PHONE)
    page.goto((reports / name).as_uri())
    width = "() => [document.documentElement.scrollWidth, innerWidth]"
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    scroll, inner = page.evaluate(width)
    assert scroll <= inner
    # Nothing is cut off or scrolls within the page, either: at A4's width neither.
    cut = """() => [...document.querySelectorAll('.table')].filter(
      each => each.scrollWidth > each.clientWidth + 1).map(each => each.textContent.slice(0, 60))"""
    assert page.evaluate("document.querySelectorAll('.table').length") >= 4
    assert page.evaluate(cut) == []
    for size in ({"width": 1280, "height": 900}, {"width": 718, "height": 1000}):
        page.set_viewport_size(size)
        assert page.evaluate(cut) == []
    page.set_viewport_size(PHONE)
    shown = "name => [...document.querySelectorAll(name)].filter(e => e.getClientRects().length)"
    count = f"name => ({shown})(name).length"
    assert page.evaluate(count, "svg.narrow") > 0 == page.evaluate(count, "svg.wide")
    texts = page.evaluate(f"() => ({shown})('svg text').map(e => e.getBoundingClientRect().height)")
    assert min(texts) >= 8
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(count, "svg.wide") > 0 == page.evaluate(count, "svg.narrow")
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == (
        "rgb(255, 255, 255)"
    )
    page.close()
