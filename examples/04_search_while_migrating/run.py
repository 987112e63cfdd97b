"""One application, asked the same thing before, during and after a migration.

Builds a small collection of openclipart pictures in an embedded Qdrant and migrates it. Between
the steps `ask` is called: it never changes, and never knows how far the migration is.
"""

from __future__ import annotations

import shutil
import subprocess
import warnings
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from qdrant_client import QdrantClient, models

from xbtmigrate.serving import MigrationSearcher

DATA = Path(str(files("xbtmigrate"))) / "demo_data"
QUESTION = "seagull, bird"


class Model:
    """A model whose vectors are in a file."""

    def __init__(self, file: str) -> None:
        table = pq.read_table(file)
        pairs = zip(table["key"].to_pylist(), table["vector"].to_pylist(), strict=True)
        self._vectors = dict(pairs)

    def encode(self, items: Sequence[str]) -> np.ndarray:
        """Look vectors up; float32 of shape (n, d)."""
        return np.array([self._vectors[item] for item in items], np.float32)


def build() -> None:
    """Write the models' files and fill the collection with the old model's vectors."""
    for name in ("old.parquet", "new.parquet"):
        shutil.copyfile(DATA / name, name)
    points = pq.read_table(DATA / "points.parquet")
    points = points.take(np.arange(0, len(points), 5))
    client = QdrantClient(path="qdrant")
    params = models.VectorParams(size=128, distance=models.Distance.COSINE)
    client.create_collection("pictures", vectors_config={"old": params})
    vectors = Model("old.parquet").encode(points["image"].to_pylist())
    batch = models.Batch(
        ids=points["id"].to_pylist(),
        vectors={"old": vectors.tolist()},
        payloads=points.select(["image", "caption"]).to_pylist(),
    )
    client.upsert("pictures", batch, wait=True)
    client.close()


def ask(old_model: Model | None = None, serving: str = "") -> None:
    """The application: one line opens the searcher, one line asks."""
    client = QdrantClient(path="qdrant")
    new_model = Model("new.parquet")
    searcher = MigrationSearcher.open(
        client, "pictures", new_encoder=new_model, old_encoder=old_model, serving=serving
    )
    answer = searcher.search(text=QUESTION, limit=3)
    phase = searcher.situation.phase or "not begun"
    captions = "; ".join(point.payload["caption"] for point in answer)
    print(f"{phase:10}  {answer.serving:10}  {captions}")
    client.close()


def xbtmigrate(*arguments: str) -> None:
    """Run one command quietly."""
    subprocess.run(["xbtmigrate", *arguments, "--json"], check=True, capture_output=True)


def main() -> None:
    """Ask before, during and after."""
    warnings.simplefilter("ignore")
    build()
    old_model = Model("old.parquet")
    xbtmigrate("plan")
    xbtmigrate("train-projector", "--kind", "ridge")
    ask(old_model)
    ask(serving="bridge")  # without the old model
    xbtmigrate("backfill", "--online", "--fraction", "0.3")
    ask(old_model)
    ask(old_model, "calibrated")
    ask(serving="single")
    xbtmigrate("backfill", "--online", "--fraction", "1")
    ask(old_model, "calibrated")


if __name__ == "__main__":
    main()
