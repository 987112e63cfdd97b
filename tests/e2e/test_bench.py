"""`bench` measures on the user's own server, writes only when told to, and leaves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from qdrant_client import QdrantClient

from tests.support.clipart import Clipart, write_config
from tests.support.collections import fresh_name
from tests.support.command import answer, xbtmigrate

pytestmark = pytest.mark.server

READING = {"read", "project", "encode"}
STAGES = {*READING, "write", "sweep", "order", "forward", "fill", "reencode"}


@pytest.mark.parametrize("layout", ["in_place", "shadow"])
def test_rates_and_predictions(layout: str, qdrant_url: str, tmp_path: Path) -> None:
    client, name = QdrantClient(url=qdrant_url, check_compatibility=False), fresh_name()
    Clipart.load(600).fill(client, name, both=layout == "in_place")
    write_config(tmp_path, qdrant_url, name, layout=layout)
    before = {each.name for each in client.get_collections().collections}
    points = client.scroll(name, limit=1000, with_vectors=True)

    looked = answer("bench", cwd=tmp_path)
    assert looked["layout"] == layout
    assert (looked["points"], looked["sample"]) == (600, 600)
    rates = looked["points_per_second"]
    assert {stage for stage, rate in rates.items() if rate} == READING
    seconds = {row["strategy"]: row["seconds"] for row in looked["predicted_seconds"]}
    assert seconds == {"keep": 0, "bridge": 0, "forward": None, "fastfill": None, "full": None}
    assert {each.name for each in client.get_collections().collections} == before

    wrote = answer("bench", "--yes", cwd=tmp_path)
    rates = wrote["points_per_second"]
    assert {stage for stage, rate in rates.items() if rate} == STAGES
    seconds = {row["strategy"]: row["seconds"] for row in wrote["predicted_seconds"]}
    assert seconds["forward"] == pytest.approx(600 / rates["forward"], rel=1e-3)
    assert seconds["fastfill"] > seconds["forward"] > seconds["bridge"] == 0
    after = {each.name for each in client.get_collections().collections}
    assert after <= before | {"_xbtmigrate"}
    assert client.scroll(name, limit=1000, with_vectors=True) == points
    client.close()

    plan = answer("plan", cwd=tmp_path)
    costs = {row["strategy"]: row["seconds"] for row in plan["costs"]}
    for strategy in ("forward", "full"):
        assert costs[strategy] == pytest.approx(seconds[strategy], rel=1e-2)


def test_a_person_sees_what_to_do_next(qdrant_url: str, tmp_path: Path) -> None:
    client, name = QdrantClient(url=qdrant_url, check_compatibility=False), fresh_name()
    Clipart.load(300).fill(client, name, both=True)
    client.close()
    write_config(tmp_path, qdrant_url, name)
    shown = xbtmigrate("bench", "--sample", "256", cwd=tmp_path).stdout
    assert "bench --yes" in shown
    assert "Points per second" in shown
