"""status names the right next command in every phase, and counts what applications have done."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.clipart import Clipart
from tests.support.switching import Place

COUNT = 150


@pytest.mark.parametrize("mode", ["embedded-in_place", "embedded-shadow"])
def test_status_on_the_way_to_the_end(mode: str, tmp_path: Path):
    clipart = Clipart.load(COUNT + 3)
    first = Clipart(*(each[:COUNT] for each in (
        clipart.ids, clipart.images, clipart.captions, clipart.old, clipart.new,
    )))  # fmt: skip
    place = Place(mode, "", tmp_path, first)
    place.clipart = clipart
    assert place.run("status")["next"] == "xbtmigrate verify"
    place.run("verify")
    assert place.run("status")["next"] == "xbtmigrate cutover"
    place.run("cutover", "--yes")
    for row in range(COUNT, COUNT + 3):
        place.upsert(clipart.ids[row], row, "new", place.target)
    found = place.run("status")
    assert found["next"] == "xbtmigrate finalize"
    assert "`xbtmigrate cutover --yes` carries over" in found["next_note"]
    assert (found["points"], found["by_application"]) == (COUNT + 3, 3)
    assert (found["without_new"], found["left"]) == (0, 0)
    said = place.run("finalize", "--confirm", place.name, "--no-snapshot")["next_note"]
    assert place.run("status")["next_note"] == said


def test_status_after_an_abort(tmp_path: Path):
    place = Place("embedded-in_place", "", tmp_path, Clipart.load(COUNT))
    said = place.run("abort", "--yes", "--notice", "0")["next"]
    assert place.run("status")["next"] == said
