"""A new model that is worse than the old one: every command says keep, and a gate exits 3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from qdrant_client import QdrantClient, models

from tests.support.clipart import DATA, Clipart, vectors
from tests.support.collections import fresh_name
from tests.support.command import answer, xbtmigrate

GATE = ("--gate", "recall@10>=keep")
CONFIG = """
[qdrant]
url = "{url}"
collection = "{name}"
vector = "old"

[payload]
{payload}

[old_model]
encoder = "precomputed"
path = "{old}"
stored = "{stored}"

[new_model]
encoder = "precomputed"
path = "{new}"

[plan]
queries = "queries.parquet"
"""


def fill(
    url: str, name: str, ids: list[int], stored: np.ndarray, payloads: list[dict[str, Any]]
) -> None:
    """Make a collection with one vector, as an application has it."""
    client = QdrantClient(url=url, check_compatibility=False)
    size = models.VectorParams(size=stored.shape[1], distance=models.Distance.COSINE)
    client.create_collection(name, vectors_config={"old": size})
    for start in range(0, len(ids), 1000):
        part = slice(start, start + 1000)
        batch = models.Batch(
            ids=ids[part], vectors={"old": stored[part].tolist()}, payloads=payloads[part]
        )
        client.upsert(name, batch, wait=True)
    client.close()


def check_keep(folder: Path, *, least_gap: float) -> None:
    """Plan and evaluate say keep with a reason, and the gate exits 3 in both forms."""
    plan = answer("plan", cwd=folder)
    assert (plan["recommendation"]["strategy"], plan["strategy"]) == ("keep", "keep")
    assert "does not beat the old one" in plan["recommendation"]["reason"]
    found = answer("evaluate", *GATE, cwd=folder, expect=3)
    assert found["recommendation"]["strategy"] == "keep"
    assert (found["recommendation"]["serving"], found["recommendation"]["ordering"]) == (None, None)
    systems = {row["name"]: row for row in found["systems"]}
    assert systems["keep"]["recall@10"] - systems["full"]["recall@10"] > least_gap
    assert systems["full"]["p_value"]["recall@10"] < 0.01
    (verdict,) = found["gates"]
    assert (verdict["strategy"], verdict["fraction"], verdict["met"]) == ("full", 1.0, False)
    assert verdict["value"] == systems["full"]["recall@10"]
    assert verdict["level"] == systems["keep"]["recall@10"]


@pytest.mark.server
def test_clip_art_back_to_its_older_model(qdrant_url: str, tmp_path: Path):
    clipart, name = Clipart.load(600), fresh_name()
    fill(qdrant_url, name, clipart.ids, vectors("new", clipart.images), clipart.payloads)
    queries = {"text": clipart.captions, "relevant": [[str(i)] for i in clipart.ids]}
    pq.write_table(pa.table(queries), tmp_path / "queries.parquet")
    text = CONFIG.format(
        url=qdrant_url,
        name=name,
        payload='text = "caption"\nimage = "image"',
        old=DATA / "new.parquet",
        new=DATA / "old.parquet",
        stored="image",
    )
    (tmp_path / "xbtmigrate.toml").write_text(text, "utf-8")
    check_keep(tmp_path, least_gap=0.1)
    shown = xbtmigrate("evaluate", *GATE, "--gate", "mrr@10>=0.01", cwd=tmp_path, expect=3)
    assert "Recommended: keep" in shown.stdout
    assert "Gate recall@10>=keep on full: not met" in shown.stdout
    assert "Gate mrr@10>=0.01 on full: met" in shown.stdout
    xbtmigrate("evaluate", "--gate", "mrr@10>=0.01", cwd=tmp_path)
    refused = answer("evaluate", "--gate", "recall@10=keep", cwd=tmp_path, expect=2)
    assert "not a quality gate" in refused["error"]["message"]


@pytest.mark.server
@pytest.mark.shared
def test_debian_from_minilm_back_to_svd(qdrant_url: str, tmp_path: Path, shared_dir: Path):
    corpus = shared_dir / "data" / "text"
    packages = pq.read_table(corpus / "debian-packages.parquet", columns=["id", "description"])
    old = pq.read_table(corpus / "new-minilm384-by-text.parquet").combine_chunks()
    rows = pc.index_in(packages["description"], value_set=old["key"].combine_chunks())
    stored = old["vector"].combine_chunks().take(rows.combine_chunks())
    matrix = stored.flatten().to_numpy(zero_copy_only=False).reshape(len(packages), -1)
    name = fresh_name()
    payloads = packages.select(["description"]).to_pylist()
    fill(qdrant_url, name, packages["id"].to_pylist(), matrix.astype(np.float32), payloads)
    queries = pq.read_table(corpus / "queries.parquet")
    test = queries.filter(pc.equal(queries["split"], "test"))
    pq.write_table(test, tmp_path / "queries.parquet")
    text = CONFIG.format(
        url=qdrant_url,
        name=name,
        payload='text = "description"',
        old=corpus / "new-minilm384-by-text.parquet",
        new=corpus / "old-svd128-by-text.parquet",
        stored="text",
    )
    (tmp_path / "xbtmigrate.toml").write_text(text, "utf-8")
    check_keep(tmp_path, least_gap=0.4)
