"""What a plan and an evaluation may conclude from which queries, and how to get better ones."""

from __future__ import annotations

import csv
import json
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from qdrant_client import QdrantClient, models

from tests.support.clipart import DATA, Clipart, vectors
from tests.support.command import answer_inside, inside
from tests.support.corpus import write_vectors
from xbtmigrate.types import Vectors

COUNT = 300
CONFIG = """
[qdrant]
url = "path:qdrant"
collection = "captions"
vector = "old"

[payload]
text = "caption"
{payload}

[old_model]
encoder = "precomputed"
path = "{old}"
stored = "text"

[new_model]
encoder = "precomputed"
path = "new.parquet"

[plan]
sample = 300
{plan}
"""


def trigrams(texts: list[str]) -> Vectors:
    """A model that knows letters and nothing else: each text as a hash of its letter trigrams."""
    found = np.zeros((len(texts), 64), np.float32)
    for row, text in enumerate(texts):
        for start in range(len(text) + 2):
            found[row, zlib.crc32(f"  {text}"[start : start + 3].encode()) % 64] += 1
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def write_config(folder: Path, *, payload: str = "", plan: str = "") -> None:
    text = CONFIG.format(old=DATA / "old.parquet", payload=payload, plan=plan)
    (folder / "xbtmigrate.toml").write_text(text, "utf-8")


@pytest.fixture
def captions(tmp_path: Path) -> Clipart:
    """Captions under the old model's vectors of them; the new model is a hash of trigrams."""
    clipart = Clipart.load(COUNT)
    client = QdrantClient(path=str(tmp_path / "qdrant"))
    size = models.VectorParams(size=128, distance=models.Distance.COSINE)
    client.create_collection("captions", vectors_config={"old": size})
    payloads = [{"caption": text, "asked": text} for text in clipart.captions]
    stored = {"old": vectors("old", clipart.captions).tolist()}
    client.upsert("captions", models.Batch(ids=clipart.ids, vectors=stored, payloads=payloads))
    client.close()
    keys = sorted(set(clipart.captions))
    write_vectors(tmp_path / "new.parquet", keys, trigrams(keys))
    return clipart


@pytest.mark.parametrize("payload", ["", 'query = "asked"'])
def test_queries_that_nobody_judged_recommend_nothing(
    captions: Clipart, tmp_path: Path, payload: str
):
    write_config(tmp_path, payload=payload)
    plan = answer_inside("plan", "--report", "plan.html", cwd=tmp_path)
    advice = plan["recommendation"]
    assert (advice["strategy"], advice["fraction"], plan["strategy"]) == (None, 0.0, "keep")
    assert "no judged queries" in advice["reason"]
    assert plan["queries_template"] in plan["next_note"]
    assert "write judged queries" in (tmp_path / "plan.html").read_text("utf-8")
    full = plan["measurement"]["systems"][-1]
    assert (full["name"], full["by_definition"]) == ("full", not payload)
    found = answer_inside("evaluate", cwd=tmp_path)
    assert found["recommendation"]["strategy"] is None
    if not payload:
        assert found["systems"][-1]["by_definition"]
        assert all(row["gap_closed"]["recall@10"] is None for row in found["systems"])
        for command in ("plan", "evaluate"):
            shown = inside(command, cwd=tmp_path)[1]
            assert "1 by definition" in shown
            (row,) = [line for line in shown.splitlines() if line.split()[:1] == ["full"]][-1:]
            assert "1.000" not in row
    code, _, err = inside("evaluate", "--gate", "recall@10>=keep", cwd=tmp_path)
    assert code == 2
    assert "judged queries" in err
    code, _, err = inside("backfill", "--online", cwd=tmp_path)
    assert code == 3
    assert "no judged queries" in err


def test_the_template_is_filled_in_and_decides(captions: Clipart, tmp_path: Path):
    write_config(tmp_path)
    template = Path(answer_inside("plan", cwd=tmp_path)["queries_template"])
    rows = list(csv.DictReader(template.open(encoding="utf-8")))
    assert len(rows) == 100
    assert not any(row["text"] for row in rows)
    caption = {str(i): text for i, text in zip(captions.ids, captions.captions, strict=True)}
    assert all(row["content"] in caption[row["relevant"]] for row in rows)
    with template.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, ["text", "relevant", "content"])
        table.writeheader()
        table.writerows(row | {"text": caption[row["relevant"]]} for row in rows[:60])
        table.writerows(rows[60:])
    written = template.read_bytes()
    answer_inside("plan", cwd=tmp_path)
    assert template.read_bytes() == written
    write_config(tmp_path, plan=f'queries = "{template}"')
    plan = answer_inside("plan", cwd=tmp_path)
    assert (plan["measurement"]["query_count"], plan["measurement"]["provisional"]) == (60, False)
    assert plan["recommendation"]["strategy"] is not None
    assert plan["queries_template"] is None


def test_queries_that_ask_for_every_point_are_held_out_by_fold(captions: Clipart, tmp_path: Path):
    queries = {"text": captions.captions, "relevant": [[str(i)] for i in captions.ids]}
    pq.write_table(pa.table(queries), tmp_path / "queries.parquet")
    write_config(tmp_path, plan='queries = "queries.parquet"')
    plan = answer_inside("plan", cwd=tmp_path)
    assert plan["measurement"]["query_count"] == COUNT // 5
    assert any(row["name"].startswith("bridge:") for row in plan["measurement"]["systems"])
    trained = answer_inside("train-projector", "--kind", "ridge", cwd=tmp_path)
    assert trained["pairs"]["text"] + trained["held_out"] == COUNT - COUNT // 5
    found = answer_inside("evaluate", cwd=tmp_path)
    assert found["query_count"] == COUNT // 5
    assert any("training used their points" in each for each in found["warnings"])
    pairs = set(pq.read_table(next(tmp_path.glob(".xbtmigrate/*/pairs.parquet")))["id"].to_pylist())
    fold = set(pq.read_table(next(tmp_path.glob(".xbtmigrate/*/fold.parquet")))["id"].to_pylist())
    assert len(fold) == COUNT // 5
    assert not pairs & fold


def test_three_tasks_have_three_names(captions: Clipart, tmp_path: Path):
    queries = {"text": captions.captions[:60], "relevant": [[str(i)] for i in captions.ids[:60]]}
    pq.write_table(pa.table(queries), tmp_path / "queries.parquet")
    write_config(tmp_path, plan='queries = "queries.parquet"')
    plan = answer_inside("plan", cwd=tmp_path)
    assert all(
        name.startswith("sample_")
        for row in plan["measurement"]["systems"]
        for name in row["metrics"]
    )
    assert "sample recall@10" in plan["recommendation"]["reason"]
    trained = answer_inside("train-projector", "--kind", "ridge", cwd=tmp_path)
    for direction in trained["directions"].values():
        assert "held_out_recall@10" in direction["candidates"][0]
        assert "recall@10" not in direction["candidates"][0]
    found = answer_inside("evaluate", cwd=tmp_path)
    assert all("recall@10" in row for row in found["systems"])


def test_made_queries_measure_but_decide_nothing_until_they_are_rewritten(
    captions: Clipart, tmp_path: Path
):
    write_config(tmp_path)
    done = answer_inside("make-queries", "--field", "asked", "--count", "60", cwd=tmp_path)
    assert (done["field"], done["queries"]) == ("asked", 60)
    code, _, err = inside("make-queries", "--field", "asked", cwd=tmp_path)
    assert (code, "exists" in err) == (2, True)
    code, _, err = inside("make-queries", "--force", cwd=tmp_path)
    assert (code, "--field" in err) == (2, True)
    code, _, err = inside("make-queries", "--force", "--field", "caption", cwd=tmp_path)
    assert (code, "payload.text" in err) == (2, True)
    file = tmp_path / "queries-made.jsonl"
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    caption_of = dict(zip(map(str, captions.ids), captions.captions, strict=True))
    for row in rows:
        same = [point for point, text in caption_of.items() if text.split() == row["text"].split()]
        assert (sorted(row["relevant"]), row["made"]) == (sorted(same), "asked")
    write_config(tmp_path, plan='queries = "queries-made.jsonl"')
    plan = answer_inside("plan", cwd=tmp_path)
    assert plan["measurement"]["provisional"] is True
    assert plan["recommendation"]["strategy"] is None
    assert any("description of itself" in each for each in plan["warnings"])
    code, _, err = inside("evaluate", "--gate", "recall@10>=0", cwd=tmp_path)
    assert (code, "needs judged queries" in err) == (2, True)
    for row in rows:
        del row["made"]
    file.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    plan = answer_inside("plan", cwd=tmp_path)
    assert plan["measurement"]["provisional"] is False
    assert plan["recommendation"]["strategy"] is not None


def test_clicks_decide_and_say_what_they_favour(captions: Clipart, tmp_path: Path):
    write_config(tmp_path, plan='queries = "clicks.csv"')
    with (tmp_path / "clicks.csv").open("w", encoding="utf-8", newline="") as opened:
        log = csv.writer(opened)
        log.writerow(["text", "id", "clicks"])
        pairs = zip(captions.captions[:60], captions.ids, strict=False)
        log.writerows([text, point, 5] for text, point in pairs)
    plan = answer_inside("plan", cwd=tmp_path)
    assert plan["recommendation"]["strategy"] is not None
    assert any("favour what the old model showed" in each for each in plan["warnings"])


def test_judged_queries_of_documents_are_translated_to_points(captions: Clipart, tmp_path: Path):
    write_config(tmp_path, plan='queries = "queries.jsonl"')
    client = QdrantClient(path=str(tmp_path / "qdrant"))
    # Two points a document, as chunks of it.
    for row, point in enumerate(captions.ids):
        client.set_payload("captions", {"meta": {"doc": f"MED-{row // 2}"}}, [point])
    client.close()
    beir = tmp_path / "beir"
    (beir / "qrels").mkdir(parents=True)
    rows = [{"_id": f"q{row}", "text": captions.captions[2 * row]} for row in range(60)]
    (beir / "queries.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    judgements = [f"q{row}\tMED-{row}\t1" for row in range(60)] + ["q1\tMED-x\t2"]
    table = "\n".join(["query-id\tcorpus-id\tscore", *judgements])
    (beir / "qrels" / "test.tsv").write_text(table, "utf-8")

    write_config(tmp_path, plan='queries = "beir"')
    code, _, err = inside("plan", cwd=tmp_path)
    assert (code, "'MED-0' is not a point id" in err) == (1, True), err
    assert "make-queries --judged" in err
    assert "encoding" not in err
    given = ("make-queries", "--judged", "beir", "--out", "queries.jsonl", "--id-field")
    code, _, err = inside(*given, "asked", cwd=tmp_path)
    assert (code, "'MED-0', in the field 'asked'" in err) == (2, True), err
    code, _, err = inside(*given[:-1], cwd=tmp_path)
    assert (code, "need each other" in err) == (2, True), err
    done = answer_inside(*given, "meta.doc", cwd=tmp_path)
    assert (done["queries"], done["answers"], done["missing"]) == (60, 120, 1)
    write_config(tmp_path, plan='queries = "queries.jsonl"')
    plan = answer_inside("plan", cwd=tmp_path)
    assert plan["measurement"]["provisional"] is False
    assert plan["recommendation"]["strategy"] is not None
