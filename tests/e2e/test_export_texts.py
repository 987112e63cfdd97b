"""A model that runs elsewhere: what is exported is all that a migration embeds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from qdrant_client import QdrantClient

from tests.support.command import answer_inside, inside
from tests.support.corpus import (
    create_collection,
    fill_collection,
    write_precomputed_config,
    write_vectors,
)
from xbtmigrate.testing.encoders import FakeEncoder
from xbtmigrate.types import Modality

OLD, NEW = FakeEncoder(dimension=16, seed=1), FakeEncoder(dimension=24, seed=2)
COUNT, SAMPLE = 600, 300
ASKED = [f"question {number}" for number in range(30)]
SETTINGS: dict[str, Any] = {
    "old_model": {"path": "old", "model": "old"},
    "new_model": {"path": "new", "model": "new"},
    "plan": {"strategy": "fastfill", "sample": SAMPLE, "queries": "judged.parquet"},
}


def texts() -> list[str]:
    words = np.random.default_rng(0).integers(0, 240, (COUNT, 14))
    return [" ".join(f"word{word}" for word in row) for row in words]


def rows(folder: Path, part: str) -> list[dict[str, Any]]:
    files = sorted(folder.glob(f"{part}-*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def embed_elsewhere(given: Path, made: Path, encoder: FakeEncoder) -> None:
    """Write one file of vectors for each exported file, as a job elsewhere would."""
    made.mkdir(exist_ok=True)
    for file in given.glob("*.parquet"):
        keys = pq.read_table(file)["key"].to_pylist()
        write_vectors(made / file.name, keys, encoder.encode(keys, Modality.TEXT))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp("texts")
    client = QdrantClient(path=str(tmp_path / "qdrant"))
    given = texts()
    create_collection(client, "texts", {"old": 16, "new": 24})
    old = OLD.encode(given, Modality.TEXT)
    payloads = [{"text": text} for text in given]
    fill_collection(client, "texts", range(1, COUNT + 1), {"old": old}, payloads)
    client.close()
    asked = {"text": ASKED, "relevant": [[str(point)] for point in range(1, 31)]}
    pq.write_table(pa.table(asked), tmp_path / "judged.parquet")
    write_precomputed_config(tmp_path, "path:qdrant", "texts", **SETTINGS)
    return tmp_path


@pytest.fixture
def world(filled: Path, tmp_path: Path) -> Path:
    return shutil.copytree(filled, tmp_path / "world")


def test_a_migration_embeds_nothing_but_what_was_exported(world: Path):
    # Before there are any vectors: neither model is opened.
    done = answer_inside("export-texts", "--pairs", "200", cwd=world)
    folder = world / done["folder"]
    sample = {row["id"] for row in rows(folder, "sample")}
    assert SAMPLE + len(ASKED) <= len(sample) == done["parts"]["sample"]["rows"] < COUNT
    assert {str(point) for point in range(1, 31)} <= sample
    assert [row["key"] for row in rows(folder, "queries")] == ASKED
    assert done["parts"]["words"]["rows"] >= 200
    assert all(row["id"] is None for row in rows(folder, "made-queries"))
    for name, encoder in (("old", OLD), ("new", NEW)):
        embed_elsewhere(folder, world / name, encoder)
        assert missing_rows(world, name) == []
    plan = answer_inside("plan", cwd=world)
    assert not [each for each in plan["warnings"] if "not used" in each or "left out" in each]
    trained = answer_inside("train-projector", "--pairs", "200", "--kind", "ridge", cwd=world)
    assert trained["calibration"]["basis"].startswith("excerpts")


def missing_rows(world: Path, model: str, *more: str) -> list[dict[str, Any]]:
    given = [
        "export-texts",
        "--missing",
        model,
        "--out",
        "second",
        "--force",
        "--pairs",
        "200",
        *more,
    ]
    done = answer_inside(*given, cwd=world)
    table = world / "second" / "missing.parquet"
    found = pq.read_table(table).to_pylist() if table.exists() else []
    assert done["parts"] == {"missing": {"files": bool(found), "rows": len(found)}}
    return found


def test_a_second_round_is_one_file_and_the_plan_stays(world: Path, monkeypatch):
    monkeypatch.setattr("xbtmigrate.workflows.plan.export_texts.FILE", 100)
    answer_inside("export-texts", "--pairs", "200", cwd=world)
    for name, encoder in (("old", OLD), ("new", NEW)):
        embed_elsewhere(world / "to-embed", world / name, encoder)
    answer_inside("plan", cwd=world)
    answer_inside("train-projector", "--pairs", "200", "--kind", "ridge", cwd=world)
    whole = answer_inside("export-texts", "--pairs", "200", "--out", "whole", "--all", cwd=world)
    sampled = {row["id"] for row in rows(world / "whole", "sample")}
    gallery = rows(world / "whole", "gallery")
    order = pq.read_table(next(world.glob(".xbtmigrate/*/order.parquet")))["id"].to_pylist()
    assert [row["id"] for row in gallery] == [each for each in order if each not in sampled]
    assert whole["parts"]["gallery"] == {"files": 3, "rows": COUNT - len(sampled)}
    # The job elsewhere loses one file.
    (world / "whole" / "gallery-00001.parquet").unlink()
    embed_elsewhere(world / "whole", world / "new", NEW)
    found = missing_rows(world, "new", "--all")
    assert [(row["key"], row["id"]) for row in found] == [
        (row["key"], row["id"]) for row in gallery[100:200]
    ]
    embed_elsewhere(world / "second", world / "new", NEW)
    assert missing_rows(world, "new", "--all") == []
    done = answer_inside("backfill", "--online", "--fraction", "1", cwd=world)
    assert (done["status"], done["gallery"]["encoded"]) == ("complete", COUNT)


def test_the_same_collection_gives_the_same_files(world: Path):
    for out in ("first", "again"):
        answer_inside("export-texts", "--out", out, "--all", cwd=world)
    first, again = (
        {f.name: f.read_bytes() for f in (world / out).iterdir()} for out in ("first", "again")
    )
    assert first == again
    # With so many pairs every point is in the sample, and none is left for the gallery.
    assert set(first) == {
        f"{part}-00000.parquet" for part in ("sample", "queries", "made-queries", "words")
    }


def test_earlier_files_stay_unless_forced(world: Path):
    answer_inside("export-texts", cwd=world)
    stale = world / "to-embed" / "gallery-00009.parquet"
    own = world / "to-embed" / "notes.parquet"
    for file in (stale, own):
        file.write_text("earlier")
    code, _, said = inside("export-texts", cwd=world)
    assert code == 2
    assert "--force" in said
    assert stale.exists()
    answer_inside("export-texts", "--force", cwd=world)
    assert not stale.exists()
    assert own.exists()


def test_what_cannot_be_exported_is_refused_before_anything_is_written(world: Path):
    write_precomputed_config(world, "path:qdrant", "texts", **SETTINGS, payload={"text": "text"})
    code, _, said = inside("export-texts", "--missing", "new", cwd=world)
    assert code == 1
    assert "does not exist" in said
    config = world / "xbtmigrate.toml"
    text = config.read_text().replace(
        'encoder = "precomputed"\npath = "new"', 'encoder = "openai"\napi_key_env = ""'
    )
    config.write_text(text)
    code, _, said = inside("export-texts", "--missing", "new", cwd=world)
    assert code == 2
    assert "precomputed" in said
    assert not (world / "to-embed").exists()
