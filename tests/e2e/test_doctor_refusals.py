"""doctor names what the next command would refuse, in that command's own words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from qdrant_client import QdrantClient, models

from tests.support.clipart import DATA, Clipart, write_config
from tests.support.command import answer_inside
from tests.support.switching import Place

COUNT = 150


def same_words(folder: Path, name: str, *command: str, expect: int) -> dict[str, Any]:
    """The command refuses, and doctor finds that and nothing else."""
    refused = answer_inside(*command, cwd=folder, expect=expect)["error"]
    (finding,) = answer_inside("doctor", cwd=folder, expect=3)["findings"]
    assert (finding["name"], finding["message"]) == (name, refused["message"])
    assert finding["way_out"] == refused["hint"]
    return finding


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A collection and a configuration; its inputs are files of this folder."""
    clipart = Clipart.load(COUNT)
    client = QdrantClient(path=str(tmp_path / "qdrant"))
    clipart.fill(client, "clipart", both=False)
    client.close()
    for name in ("old.parquet", "new.parquet"):
        (tmp_path / name).write_bytes((DATA / name).read_bytes())
    asked = {"text": clipart.captions[:40], "relevant": [[str(i)] for i in clipart.ids[:40]]}
    pq.write_table(pa.table(asked), tmp_path / "queries.parquet")
    path = write_config(tmp_path, "path:qdrant", "clipart", plan='queries = "queries.parquet"')
    path.write_text(path.read_text("utf-8").replace(f"{DATA}/", ""), "utf-8")
    return tmp_path


def test_a_missing_input_is_found_before_and_after_a_plan(folder: Path):
    assert answer_inside("doctor", cwd=folder)["next"] == "xbtmigrate plan"
    inputs = ("old.parquet", "new.parquet", "queries.parquet")
    for name, code in zip(inputs, (1, 1, 2), strict=True):
        (folder / name).rename(folder / "away")
        found = same_words(
            folder, f"{Path(name).stem}_model_unusable".replace("queries_model", "queries"),
            "plan", expect=code,
        )  # fmt: skip
        assert name in found["message"]
        (folder / "away").rename(folder / name)
    answer_inside("plan", cwd=folder)
    (folder / "old.parquet").rename(folder / "away")
    (finding,) = answer_inside("doctor", cwd=folder, expect=3)["findings"]
    assert finding["name"] == "old_model_unusable"


def test_what_plan_would_refuse(folder: Path):
    config = folder / "xbtmigrate.toml"
    text = config.read_text("utf-8")
    config.write_text(text.replace('collection = "clipart"', 'collection = "absent"'), "utf-8")
    same_words(folder, "unusable", "plan", expect=1)
    swapped = text.replace('path = "old.parquet"', 'path = "new.parquet"')
    config.write_text(swapped, "utf-8")
    same_words(folder, "old_model_unusable", "plan", expect=1)
    config.write_text(text, "utf-8")
    client = QdrantClient(path=str(folder / "qdrant"))
    size = models.VectorParams(size=7, distance=models.Distance.COSINE)
    client.create_collection("clipart__xbtmigrate", vectors_config={"new": size})
    client.close()
    config.write_text(text.replace('layout = "auto"', 'layout = "shadow"'), "utf-8")
    same_words(folder, "plan_refused", "plan", expect=1)


def test_what_the_commands_on_the_way_would_refuse(tmp_path: Path):
    place = Place("embedded-shadow", "", tmp_path, Clipart.load(COUNT))
    place.run("verify")
    assert place.run("doctor")["next"] == "xbtmigrate cutover"
    wrong = [[str(point)] for point in reversed(place.clipart.ids)]
    queries = pa.table({"text": place.clipart.captions, "relevant": wrong})
    pq.write_table(queries, tmp_path / "q.parquet")
    evaluated = place.run("evaluate", "--queries", "q.parquet")
    assert evaluated["recommendation"]["strategy"] == "keep"
    failed = [each for each in place.run("cutover", expect=3)["gates"] if not each["passed"]]
    (finding,) = place.run("doctor", expect=3)["findings"]
    assert finding["name"] == "cutover_refused"
    assert [f"{each['name']}: {each['detail']}" for each in failed] == [finding["message"]]
    assert "--despite-evaluation" in finding["way_out"]
    place.run("cutover", "--yes", "--despite-evaluation")
    assert place.run("doctor")["healthy"]
    place.upsert(place.clipart.ids[0], 5, "old", place.name)
    same_words(tmp_path, "finalize_refused", "finalize", expect=3)


def test_why_the_last_run_ended(folder: Path):
    config = folder / "xbtmigrate.toml"
    text = config.read_text("utf-8").replace('strategy = "fastfill"', 'strategy = "full"')
    config.write_text(text, "utf-8")
    answer_inside("plan", cwd=folder)
    client = QdrantClient(path=str(folder / "qdrant"))
    ids = Clipart.load(8).ids
    client.set_payload("clipart", {"image": "no such image"}, points=ids)
    client.close()
    ended = answer_inside("backfill", "--online", cwd=folder, expect=3)["error"]
    assert answer_inside("status", cwd=folder)["last_error"] == ended["message"]
    (finding,) = answer_inside("doctor", cwd=folder, expect=3)["findings"]
    assert finding["name"] == "backfill_refused"
    assert finding["message"] == f"the last run ended: {ended['message']}"
    assert "plan.max_missing" in finding["way_out"]
    config.write_text(text.replace("[plan]", "[plan]\nmax_missing = 0.1"), "utf-8")
    answer_inside("backfill", "--online", cwd=folder)
    assert answer_inside("status", cwd=folder)["last_error"] is None
    assert answer_inside("doctor", cwd=folder)["healthy"]
