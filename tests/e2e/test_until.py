"""A backfill that ends where queries on the live gallery say so, and orders by demand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from qdrant_client import QdrantClient

from tests.support.checks import check_vectors
from tests.support.clipart import Clipart, vectors, write_config
from tests.support.collections import fresh_name
from tests.support.command import answer
from xbtmigrate.serving import DemandLog, MigrationSearcher

COUNT, SAMPLE = 600, 150


@pytest.fixture
def client(qdrant_url: str):
    client = QdrantClient(url=qdrant_url, check_compatibility=False)
    yield client
    client.close()


@pytest.fixture
def trained(client: QdrantClient, qdrant_url: str, tmp_path: Path) -> tuple[Clipart, str]:
    """A planned and trained migration that has paid for a quarter of its points."""
    clipart, name = Clipart.load(COUNT), fresh_name()
    clipart.fill(client, name)
    path = write_config(tmp_path, qdrant_url, name)
    path.write_text(path.read_text().replace("sample = 400", f"sample = {SAMPLE}"))
    answer("plan", cwd=tmp_path)
    answer("train-projector", "--kind", "ridge", "--pairs", str(SAMPLE), cwd=tmp_path)
    return clipart, name


@pytest.mark.server
def test_a_backfill_ends_where_the_live_gallery_is_good_enough(
    trained: tuple[Clipart, str], client: QdrantClient, tmp_path: Path
):
    clipart, name = trained
    gate = "recall@10>=0.9*full"
    request = answer("backfill", "--until", gate, cwd=tmp_path)
    assert (request["until"], request["fraction"]) == (gate, 1.0)
    options = ("--until", gate, "--batch-size", "8", "--order", "uncertainty")
    done = answer("backfill", "--online", *options, cwd=tmp_path)
    assert (done["status"], done["until"]["met"]) == ("complete", True)
    assert done["until"]["value"] >= done["until"]["level"] > 0
    assert done["until"]["query_count"] >= 50
    assert 0 < done["fraction"] < 1
    assert done["gallery"]["encoded"] == pytest.approx(done["fraction"] * COUNT, abs=1)
    check_vectors(client, name, clipart, tmp_path, encoded=done["gallery"]["encoded"])
    seen = answer("status", cwd=tmp_path)
    assert (seen["quality"]["gate"], seen["late_writes"]) == (gate, 0)
    assert seen["quality"]["values"][-1] == done["until"]["value"]
    assert seen["quality"]["fractions"] == sorted(seen["quality"]["fractions"])
    client.delete_vectors(name, ["new"], points=clipart.ids[:2])
    assert answer("status", cwd=tmp_path)["late_writes"] == 2
    answer("backfill", "--online", cwd=tmp_path)
    again = answer("backfill", "--online", cwd=tmp_path)
    assert (again["status"], again["encoded"]) == ("already complete", 0)
    last = answer(
        "backfill", "--online", "--until", "recall@10>=0.999", "--fraction", "0.9",
        cwd=tmp_path, expect=3,
    )  # fmt: skip
    assert last["until"]["met"] is False
    assert last["gallery"]["encoded"] == round(0.9 * COUNT)


@pytest.mark.server
@pytest.mark.parametrize("kind", ["ids", "queries"])
def test_points_that_queries_reach_are_encoded_first(
    kind: str, trained: tuple[Clipart, str], client: QdrantClient, tmp_path: Path
):
    clipart, name = trained
    asked = clipart.ids[-20:]
    if kind == "ids":
        rows = [{"id": str(point), "hits": 3} for point in asked]
        (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
        log = "log.jsonl"
    else:
        texts = clipart.captions[-20:]
        pq.write_table(pa.table({"text": texts}), tmp_path / "log.parquet")
        log = "log.parquet"
    options = ("--order", "demand", "--demand", log)
    answer("backfill", "--online", "--fraction", "0.6", *options, cwd=tmp_path)
    order = pq.read_table(next(tmp_path.glob(".xbtmigrate/*/order.parquet"))).to_pylist()
    unpaid = [row["id"] for row in order if not row["paid"]]
    assert all(row["paid"] for row in order[: len(order) - len(unpaid)])
    if kind == "ids":
        wanted = {str(point) for point in asked} & set(unpaid)
        assert set(unpaid[: len(wanted)]) == wanted
    else:
        asking = vectors("old", texts).tolist()
        answers = [client.query_points(name, query=q, using="old", limit=10) for q in asking]
        reached = {str(point.id) for found in answers for point in found.points} & set(unpaid)
        assert set(unpaid[: len(reached)]) == reached


@pytest.mark.server
def test_points_that_a_searcher_was_asked_for_are_encoded_first(
    trained: tuple[Clipart, str], client: QdrantClient, tmp_path: Path
):
    clipart, name = trained
    log = DemandLog(tmp_path / "log.parquet")
    folder = next(tmp_path.glob(".xbtmigrate/*"))
    searcher = MigrationSearcher.open(client, name, folder=folder, serving="keep", demand=log)
    asked = vectors("old", clipart.captions[-20:])
    found = Counter(str(point.id) for query in asked for point in searcher.search(old_vector=query))
    log.flush()
    assert log.problem == ""
    written = pq.read_table(tmp_path / "log.parquet").to_pylist()
    assert {row["id"]: row["hits"] for row in written} == found
    options = ("--order", "demand", "--demand", "log.parquet")
    answer("backfill", "--online", "--fraction", "0.6", *options, cwd=tmp_path)
    order = pq.read_table(next(tmp_path.glob(".xbtmigrate/*/order.parquet"))).to_pylist()
    hits = [found[row["id"]] for row in order if not row["paid"]]
    assert hits == sorted(hits, reverse=True)
    assert hits[0] > 0


@pytest.mark.server
def test_a_log_that_is_none_is_refused_before_anything_is_written(
    trained: tuple[Clipart, str], tmp_path: Path
):
    online = ("backfill", "--online", "--fraction", "0.5", "--order", "demand")
    refused = answer(*online, cwd=tmp_path, expect=2)
    assert "needs a log" in refused["error"]["message"]
    pq.write_table(pa.table({"point": ["1"]}), tmp_path / "log.parquet")
    refused = answer(*online, "--demand", "log.parquet", cwd=tmp_path, expect=2)
    assert "not a traffic log" in refused["error"]["message"]
    assert answer("status", cwd=tmp_path)["projected"] == 0
