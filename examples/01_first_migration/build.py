"""Play the past: build the collection that is migrated, with judged queries, in this folder.

It holds 600 openclipart pictures. An old CLIP model has embedded them, and their captions are in
the payload. The vectors of both models come from files of the package, so no model is needed.
"""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from qdrant_client import QdrantClient, models

STEP = 5  # every fifth of the 3,000 pictures
DATA = Path(str(files("xbtmigrate"))) / "demo_data"


def old_vectors(keys: list[str]) -> np.ndarray:
    """Look up what the old model made of these pictures; float32 of shape (n, 128)."""
    table = pq.read_table("old.parquet")
    vectors = dict(zip(table["key"].to_pylist(), table["vector"].to_pylist(), strict=True))
    return np.array([vectors[key] for key in keys], np.float32)


def main() -> None:
    """Write old.parquet, new.parquet and queries.parquet, and fill the collection."""
    for name in ("old.parquet", "new.parquet"):
        shutil.copyfile(DATA / name, name)
    points = pq.read_table(DATA / "points.parquet")
    points = points.take(np.arange(0, len(points), STEP))
    client = QdrantClient(path="qdrant")
    params = models.VectorParams(size=128, distance=models.Distance.COSINE)
    client.create_collection("pictures", vectors_config={"old": params})
    batch = models.Batch(
        ids=points["id"].to_pylist(),
        vectors={"old": old_vectors(points["image"].to_pylist()).tolist()},
        payloads=points.select(["image", "caption"]).to_pylist(),
    )
    client.upsert("pictures", batch, wait=True)
    client.close()
    asked = points.filter(points["held_out"])
    relevant = pa.array([[str(point)] for point in asked["id"].to_pylist()])
    pq.write_table(pa.table({"text": asked["caption"], "relevant": relevant}), "queries.parquet")
    print(f"Built the collection 'pictures' with {len(points)} points and {len(asked)} queries.")


if __name__ == "__main__":
    main()
