"""The page of `compare` as a person uses it, in a real browser."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient

from tests.support.clipart import Clipart, make_judged_folder
from tests.support.command import answer_inside, start
from tests.support.migrating import old_model
from xbtmigrate.evaluation.retrieval import SearchSpace, rank_top_k

COUNT = 300
NASTY = "<img src=x onerror=alert(1)><script>alert(2)</script>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backfilled migration whose payloads hold markup, with judged queries."""
    folder = tmp_path_factory.mktemp("compare")
    clipart = Clipart.load(COUNT)
    make_judged_folder(folder, clipart, 40)
    client = QdrantClient(path=str(folder / "qdrant"))
    client.set_payload("clipart", {"note": NASTY}, points=clipart.ids)
    client.close()
    answer_inside("plan", cwd=folder)
    answer_inside("train-projector", "--kind", "procrustes,ridge", cwd=folder)
    answer_inside("backfill", "--online", "--fraction", "0.3", cwd=folder)
    return folder


@pytest.mark.long
def test_a_person_looks_ticks_and_votes(folder: Path, browser: Any):
    clipart = Clipart.load(COUNT)
    ranked = rank_top_k(SearchSpace(old_model(clipart.captions[:40]), clipart.old).score(), 10)
    answered = next(row for row in range(40) if row in ranked[row])
    running = start("compare", "--no-browser", "--port", "0", cwd=folder)
    try:
        address = re.search(r"http://127\.0\.0\.1:\d+/\S+/", running.stdout.readline())[0]
        for size, scheme in (((1280, 900), "light"), ((390, 844), "dark")):
            width, height = size
            page = browser.new_page(
                viewport={"width": width, "height": height}, color_scheme=scheme
            )
            asked, said = [], []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.on("console", lambda message, said=said: said.append(message.text))
            page.on("pageerror", lambda error, said=said: said.append(str(error)))
            page.goto(address)
            assert page.get_by_text("New is better").is_hidden()
            page.select_option("#judged", str(answered))
            page.wait_for_selector("#encoded li")
            assert page.locator("#columns section").count() == 3
            known = page.locator(f'#keep input[data-point="{clipart.ids[answered]}"]')
            assert known.is_checked(), "the answer of a judged query is ticked"
            page.fill("#text", clipart.captions[5])
            page.keyboard.press("Enter")
            page.wait_for_selector("#columns input:checked", state="detached")
            assert page.locator("[data-vote=new]").is_disabled()
            page.locator("#projected input").first.check()
            page.click("[data-vote=new]")
            page.wait_for_selector("#votes code")
            page.locator("#keep summary").first.click()
            assert (
                NASTY
                in json.loads(
                    page.locator("#keep pre").first.inner_text().split("\n", 1)[1]
                ).values()
            )
            scroll, inner = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert scroll <= inner
            assert said == []
            assert all(url.startswith((address, "data:")) for url in asked)
            page.close()
    finally:
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    assert (running.returncode, "Traceback" in err) == (0, False), out + err
    votes = (folder / ".xbtmigrate/clipart-old/compared.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(each)["text"] for each in votes] == [clipart.captions[5]]
