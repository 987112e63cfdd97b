"""The embedded mode end to end, the demo, and what a newcomer types first."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from qdrant_client import QdrantClient, models

from tests.support.checks import check_vectors, stored
from tests.support.clipart import DATA, Clipart, write_config
from tests.support.command import answer, answer_inside, inside, xbtmigrate
from tests.support.migrating import Migrating, new_model, old_model
from tests.support.switching import Place
from xbtmigrate.serving import MigrationSearcher, wrap

COUNT = 400
VERBS = ["init", "plan", "train-projector", "backfill", "status", "evaluate", "demo"]


@pytest.fixture(scope="module")
def clipart() -> Clipart:
    return Clipart.load(COUNT)


def fill(folder: Path, clipart: Clipart, vector: str) -> None:
    """Make an embedded database with the one vector `old`, or an unnamed one."""
    client = QdrantClient(path=str(folder / "qdrant"))
    if vector:
        clipart.fill(client, "c", both=False)
    else:
        config = models.VectorParams(size=128, distance=models.Distance.COSINE)
        client.create_collection("c", vectors_config=config)
        batch = models.Batch(
            ids=clipart.ids, vectors=clipart.old.tolist(), payloads=clipart.payloads
        )
        client.upsert("c", batch)
    client.close()


@pytest.mark.parametrize(
    ("vector", "expected"),
    [("old", ("in_place", "c", "new")), ("", ("shadow", "c__xbtmigrate", ""))],
)
def test_the_main_job(
    vector: str, expected: tuple[str, str, str], clipart: Clipart, tmp_path: Path
):
    layout, target, new = expected
    fill(tmp_path, clipart, vector)
    path = write_config(tmp_path, "path:qdrant", "c")
    path.write_text(path.read_text().replace('vector = "old"', f'vector = "{vector}"'))

    plan = answer_inside("plan", cwd=tmp_path)
    assert (plan["target"]["layout"], plan["target"]["vector"]) == (layout, new)
    answer_inside("train-projector", "--kind", "procrustes,ridge", cwd=tmp_path)
    done = answer_inside("backfill", "--online", "--fraction", "0.3", cwd=tmp_path)
    assert (done["projected"], done["encoded"], done["status"]) == (COUNT, 120, "complete")
    status = answer_inside("status", cwd=tmp_path)
    assert (status["phase"], status["projected"], status["encoded"]) == ("backfilled", 280, 120)
    # Threads work side by side, two of them writing, so no step can take more than twice the time.
    taken = {step for step, spent in done["steps"].items() if 0 < spent < 2 * done["seconds"]}
    # Nothing was encoded: training had paid for every vector.
    assert taken == {"order", "read", "project", "write", "mark", "sweep"}

    queries = pa.table({"text": clipart.captions, "relevant": [[str(i)] for i in clipart.ids]})
    pq.write_table(queries, tmp_path / "q.parquet")
    found = answer_inside("evaluate", "--queries", "q.parquet", cwd=tmp_path)
    systems = {system["name"].split(":")[0]: system for system in found["systems"]}
    assert systems.keys() >= {"keep", "bridge", "forward", "full"}
    assert systems["full"]["recall@10"] > systems["keep"]["recall@10"]

    _, last, _ = inside("backfill", "--online", "--fraction", "1", "--profile", cwd=tmp_path)
    assert re.search(rf"encoded +{COUNT - 120}\n", last)
    shown = last.partition("Where the time goes")[2]
    assert re.search(r"^ *read +\d.*%", shown, re.MULTILINE)
    assert "project" not in shown
    client = QdrantClient(path=str(tmp_path / "qdrant"))
    check_vectors(client, target, clipart, tmp_path, encoded=COUNT, vector=new)
    assert stored(client, "c", vector).keys() == set(clipart.ids)
    client.close()


def test_demo(tmp_path: Path):
    shown = answer("demo", "--folder", "here", cwd=tmp_path)
    rows = {(row["strategy"].split(":")[0], row["fraction"]): row for row in shown["rows"]}
    expected = [
        ("keep", 0.0), ("bridge", 0.0), ("forward", 0.0),
        ("fastfill", 0.1), ("fastfill", 0.3), ("fastfill", 0.5),
        ("full", 1.0),
    ]  # fmt: skip
    assert [row for row in rows if row in expected] == expected
    assert rows["full", 1.0]["recall@10"] > rows["keep", 0.0]["recall@10"]
    assert shown["backfill"]["status"] == "complete"
    assert shown["cutover"]["status"] == "cut over"
    before, after = shown["query"]["before"], shown["query"]["after"]
    assert sum("clock" in caption for caption in before) < sum("clock" in each for each in after)
    assert shown["query_count"] > 100
    assert any("xbtmigrate init" in line for line in shown["advice"])
    status = answer("status", cwd=tmp_path / "here")
    assert status["phase"] == "cut_over"
    assert all(Path(tmp_path, path).exists() for path in status["artefacts"].values())
    check_the_end(tmp_path / "here")
    again = answer("demo", "--folder", "here", cwd=tmp_path, expect=2)
    assert "is not empty" in again["error"]["message"]


def check_the_end(folder: Path) -> None:
    """Go on in the demo's folder as a newcomer would, to the end."""
    command = answer("finalize", cwd=folder)["next"]
    assert command == "xbtmigrate finalize --yes --no-snapshot"
    done = answer(*command.split()[1:], cwd=folder)
    assert done["status"] == "finalized"
    assert 'qdrant.vector = "new"' in done["configuration"]
    client = QdrantClient(path=str(folder / "qdrant"))
    records, _ = client.scroll("clipart", limit=10_000, with_vectors=True)
    client.close()
    assert len(records) == 3000
    assert all({*record.vector} == {"new"} for record in records)
    assert all({*record.payload} == {"image", "caption"} for record in records)
    assert answer("doctor", cwd=folder)["findings"] == []


def test_init_writes_what_plan_takes(clipart: Clipart, tmp_path: Path):
    fill(tmp_path, clipart, "old")
    command = ("init", "--url", "path:qdrant", "--collection", "c")
    code, out, err = inside(*command, cwd=tmp_path)
    assert (code, out.startswith("Wrote xbtmigrate.toml")) == (0, True), err
    config = tmp_path / "xbtmigrate.toml"
    text = config.read_text("utf-8")
    assert 'text = "caption"' in text
    assert 'found: "caption", "image"' in text
    text = text.replace('# image = "image"', 'image = "image"')
    for model in ("old", "new"):
        path = DATA / f"{model}.parquet"
        text = text.replace(f'path = "{model}.parquet"', f'path = "{path}"')
    config.write_text(text.replace('stored = "text"', 'stored = "image"'), "utf-8")
    plan = answer_inside("plan", cwd=tmp_path)
    assert plan["model_match"]["matches"] is True
    code, _, err = inside(*command, cwd=tmp_path)
    assert code == 2
    assert err.startswith("error: xbtmigrate.toml exists")


@pytest.mark.parametrize("verb", VERBS)
def test_help(verb: str, tmp_path: Path):
    shown = xbtmigrate(verb, "--help", cwd=tmp_path)
    assert f"xbtmigrate {verb}" in shown.stdout
    assert "--help" in shown.stdout


def test_both_names_of_the_program(tmp_path: Path):
    script = Path(sys.executable).with_name("xbtmigrate")
    by_script = subprocess.run(
        [script, "--version"], capture_output=True, text=True, timeout=60, check=True
    )
    by_module = xbtmigrate("--version", cwd=tmp_path)
    assert by_module.stdout == by_script.stdout
    listed = xbtmigrate("--help", cwd=tmp_path).stdout
    assert all(verb in listed for verb in VERBS)
    assert "3 a check failed" in listed


@pytest.mark.parametrize("layout", ["in_place", "shadow"])
def test_a_searcher_and_a_wrapped_client_over_an_embedded_database(
    layout: str, clipart: Clipart, tmp_path: Path
):
    place = Place(f"embedded-{layout}", "", tmp_path, clipart)
    migrating = Migrating("", place.live, tmp_path, clipart)
    texts = clipart.captions[::10]
    opening = {
        "new_encoder": new_model,
        "old_encoder": old_model,
        "folder": migrating.artefacts.folder,
        "serving": "calibrated",
    }
    client = place.open()
    encoded = migrating.encoded(client, place.target)
    assert 0.4 < encoded.mean() < 0.6
    searcher = MigrationSearcher.open(client, place.live, **opening)
    found = [[point.id for point in searcher.search(text=text)] for text in texts]
    expected = migrating.expected(texts, encoded, 10)
    # Equal scores may differ in order.
    assert np.mean([a == b for a, b in zip(found, expected, strict=True)]) >= 0.95
    wrapped = wrap(client, place.live, **opening | {"serving": "single"})
    # Of an encoded point the stored vector is the query itself; a projected one need not be near.
    twin = int(np.flatnonzero(encoded)[0])
    vector = new_model(clipart.images[twin : twin + 1])[0].tolist()
    point = models.PointStruct(id=900_000, vector={"old": vector}, payload=clipart.payloads[twin])
    wrapped.upsert(place.live, [point])
    answered = wrapped.query_points(place.live, query=vector, using="old", limit=2).points
    assert {900_000, clipart.ids[twin]} == {each.id for each in answered}
    client.close()

    place.run("verify")
    place.run("cutover", "--yes")
    place.run("finalize", "--confirm", place.name, "--no-snapshot")
    client = place.open()
    after = MigrationSearcher.open(client, place.live, **opening).search(text=texts[0])
    assert after.serving == "single"
    [record] = client.retrieve(place.live, [900_000], with_vectors=True)
    assert set(record.vector) == {"new"}
    np.testing.assert_allclose(record.vector["new"], vector, atol=2e-6)
    client.close()
