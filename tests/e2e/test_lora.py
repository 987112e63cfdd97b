"""Tuning the new text tower through the commands, with a tiny CLIP as the new model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from qdrant_client import QdrantClient

from tests.support.clipart import Clipart, vectors, write_config
from tests.support.command import answer_inside, inside
from tests.support.tiny_clip import write_tiny_clip

pytestmark = pytest.mark.long
COUNT = 200


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = write_tiny_clip(tmp_path / "clip")
    client, clipart = QdrantClient(path=str(tmp_path / "qdrant")), Clipart.load(COUNT)
    clipart = replace(clipart, old=vectors("old", clipart.captions))
    clipart.fill(client, "c", both=False)
    client.close()
    new = f'encoder = "open_clip"\ncheckpoint = "{model}"\nthreads = 1'
    path = write_config(tmp_path, "path:qdrant", "c", new_model=new)
    path.write_text(path.read_text().replace('stored = "image"', 'stored = "text"'))
    queries = {
        "text": clipart.captions[:40],
        "relevant": [[str(point)] for point in clipart.ids[:40]],
    }
    pq.write_table(pa.table(queries), tmp_path / "queries.parquet")
    return tmp_path


def test_evaluate_shows_the_bridge_with_and_without(folder: Path):
    weights = (folder / "clip/open_clip_model.safetensors").read_bytes()
    answer_inside("plan", cwd=folder)
    trained = answer_inside("train-projector", "--kind", "ridge", "--lora", "1", cwd=folder)
    assert Path(trained["lora"]["folder"], "adapter_config.json").is_file()
    assert trained["lora"]["pairs"] > 100
    assert (
        set(trained["lora"]["on"])
        == set(trained["lora"]["off"])
        == {"held_out_recall@1", "held_out_recall@10", "held_out_mrr"}
    )
    found = answer_inside("evaluate", "--queries", "queries.parquet", cwd=folder)
    names = [system["name"] for system in found["systems"]]
    assert names[names.index("bridge:ridge") + 1] == "bridge:ridge+lora"
    assert (folder / "clip/open_clip_model.safetensors").read_bytes() == weights
    again = answer_inside("train-projector", "--kind", "ridge", cwd=folder)
    assert again["lora"] is None
    assert not Path(trained["lora"]["folder"]).exists()


def test_a_model_without_a_text_tower_is_refused(tmp_path: Path):
    client = QdrantClient(path=str(tmp_path / "qdrant"))
    Clipart.load(COUNT).fill(client, "c", both=False)
    client.close()
    write_config(tmp_path, "path:qdrant", "c")
    code, _, err = inside("train-projector", "--lora", "1", cwd=tmp_path)
    assert code == 2
    assert "text tower of an open_clip model" in err
