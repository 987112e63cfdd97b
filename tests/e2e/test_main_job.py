"""The main job as a user runs it, on a real server, every vector checked at the end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from qdrant_client import QdrantClient, models

from tests.support.checks import check_vectors, stored
from tests.support.clipart import Clipart, write_config
from tests.support.collections import fresh_name
from tests.support.command import answer, xbtmigrate

COUNT = 600


@pytest.fixture(scope="module")
def clipart() -> Clipart:
    return Clipart.load(COUNT)


@pytest.fixture(scope="module")
def client(qdrant_url: str):
    client = QdrantClient(url=qdrant_url, check_compatibility=False)
    yield client
    client.close()


@pytest.mark.server
@pytest.mark.parametrize("layout", ["in_place", "shadow"])
def test_plan_train_backfill_status_evaluate_and_on_to_the_end(
    layout: str, clipart: Clipart, client: QdrantClient, qdrant_url: str, tmp_path: Path
):
    name = fresh_name()
    clipart.fill(client, name, both=layout == "in_place")
    target = name if layout == "in_place" else f"{name}__xbtmigrate"
    before = stored(client, name, "old")
    write_config(tmp_path, qdrant_url, name, layout=layout)

    plan = answer("plan", "--out", "frozen.json", cwd=tmp_path)
    assert plan["target"]["layout"] == layout
    assert [cost["strategy"] for cost in plan["costs"]] == [
        "keep", "bridge", "forward", "fastfill", "full",
    ]  # fmt: skip
    measured = [system["name"].split(":")[0] for system in plan["measurement"]["systems"]]
    fusions = ["fusion"] * 3
    assert measured == ["keep", "keep", "bridge", "forward", *fusions, "full"]
    assert plan["coverage"]["points"] == COUNT
    assert plan["model_match"]["stored"] == "image"
    assert (tmp_path / "frozen.json").exists()
    assert answer("status", cwd=tmp_path)["phase"] == "planned"

    trained = answer("train-projector", "--kind", "procrustes,ridge", cwd=tmp_path)
    assert {row["kind"] for row in trained["directions"]["bridge"]["candidates"]} == {
        "procrustes", "ridge",
    }  # fmt: skip
    assert answer("status", cwd=tmp_path)["phase"] == "trained"

    request = answer("backfill", "--fraction", "0.3", cwd=tmp_path)
    assert (request["to_encode"], request["to_project"]) == (180, COUNT)
    assert client.collection_exists(target) is (layout == "in_place")
    assert all("_xbtmigrate" not in payload for _, payload in stored(client, name, "old").values())

    done = answer("backfill", "--online", "--fraction", "0.3", cwd=tmp_path)
    assert (done["projected"], done["encoded"], done["status"]) == (COUNT, 180, "complete")
    assert (done["vanished"], done["missing_source"], done["failed"]) == (0, 0, 0)
    check_vectors(client, target, clipart, tmp_path, encoded=180)

    status = answer("status", cwd=tmp_path)
    assert (status["phase"], status["encoded"], status["projected"]) == ("backfilled", 180, 420)

    again = answer("backfill", "--online", "--fraction", "0.3", cwd=tmp_path)
    assert again["status"] == "already complete"

    queries = pa.table({"text": clipart.captions, "relevant": [[str(i)] for i in clipart.ids]})
    pq.write_table(queries, tmp_path / "q.parquet")
    found = answer("evaluate", "--queries", "q.parquet", cwd=tmp_path)
    assert (found["metric"], found["query_count"], found["gallery_count"]) == (
        "recall@10", COUNT, COUNT,
    )  # fmt: skip
    names = [system["name"] for system in found["systems"]]
    assert names[0] == "keep"
    assert names[-1] == "full"
    assert any(name.startswith("bridge:") for name in names)
    assert any(name.startswith("forward:") for name in names)
    by_name = {system["name"]: system for system in found["systems"]}
    assert by_name["full"]["recall@10"] > by_name["keep"]["recall@10"]
    for curve in found["curves"]:
        assert len(curve["fractions"]) == len(curve["recall@10"]) == 11
        assert curve["auc"] == pytest.approx(np.mean(curve["recall@10"]))

    last = answer("backfill", "--online", "--fraction", "1", cwd=tmp_path)
    assert (last["projected"], last["encoded"]) == (0, 420)
    check_vectors(client, target, clipart, tmp_path, encoded=COUNT)

    after = stored(client, name, "old")
    for point, (vector, _) in before.items():
        np.testing.assert_array_equal(after[point][0], vector)


@pytest.mark.server
def test_a_changed_config_makes_the_plan_stale_and_says_what_changed(
    clipart: Clipart, client: QdrantClient, qdrant_url: str, tmp_path: Path
):
    name = fresh_name()
    clipart.fill(client, name)
    path = write_config(tmp_path, qdrant_url, name)
    xbtmigrate("plan", cwd=tmp_path)
    path.write_text(path.read_text().replace("seed = 0", "seed = 1"))
    refused = xbtmigrate("backfill", "--online", cwd=tmp_path, expect=3)
    assert "plan.seed: was 0, is now 1" in refused.stderr
    assert "hint:" in refused.stderr
    assert all("_xbtmigrate" not in payload for _, payload in stored(client, name, "new").values())


@pytest.mark.server
def test_keep_writes_nothing(
    clipart: Clipart, client: QdrantClient, qdrant_url: str, tmp_path: Path
):
    name = fresh_name()
    clipart.fill(client, name)
    write_config(tmp_path, qdrant_url, name, strategy="keep")
    xbtmigrate("plan", cwd=tmp_path)
    refused = answer("backfill", "--online", cwd=tmp_path, expect=3)
    assert refused["error"]["type"] == "GateError"
    assert "keep" in refused["error"]["message"]


@pytest.mark.server
def test_a_point_of_the_application_that_changes_after_the_run_is_done_again(
    clipart: Clipart, client: QdrantClient, qdrant_url: str, tmp_path: Path
):
    name = fresh_name()
    clipart.fill(client, name)
    write_config(tmp_path, qdrant_url, name)
    xbtmigrate("plan", cwd=tmp_path)
    xbtmigrate("train-projector", "--kind", "ridge", cwd=tmp_path)
    xbtmigrate("backfill", "--online", "--fraction", "1", cwd=tmp_path)
    changed, replaced, gone = clipart.ids[:3]
    client.set_payload(name, {"image": clipart.images[5]}, points=[changed], wait=True)
    point = models.PointStruct(
        id=replaced,
        vector={"old": clipart.old[6].tolist()},
        payload={"image": clipart.images[6], "caption": clipart.captions[6]},
    )
    client.upsert(name, [point], wait=True)
    client.delete(name, [gone], wait=True)
    done = answer("backfill", "--online", "--fraction", "1", cwd=tmp_path)
    assert done["gallery"]["encoded"] == done["gallery"]["points"] == COUNT - 1
    after = stored(client, name, "new")
    np.testing.assert_allclose(after[changed][0], clipart.new[5], atol=2e-6)
    np.testing.assert_allclose(after[replaced][0], clipart.new[6], atol=2e-6)
    assert gone not in after
