"""The small real collection of the package, as a user would have it on a server or embedded."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from qdrant_client import QdrantClient

from tests.support.corpus import create_collection, fill_collection

DATA = Path(str(files("xbtmigrate"))) / "demo_data"


@dataclass(frozen=True, slots=True)
class Clipart:
    """Points with captions and both models' image vectors, row by row."""

    ids: list[int]
    images: list[str]
    captions: list[str]
    old: np.ndarray
    new: np.ndarray

    @classmethod
    def load(cls, count: int) -> Clipart:
        table = pq.read_table(DATA / "points.parquet").slice(0, count)
        images = table["image"].to_pylist()
        return cls(
            table["id"].to_pylist(),
            images,
            table["caption"].to_pylist(),
            vectors("old", images),
            vectors("new", images),
        )

    @property
    def payloads(self) -> list[dict[str, str]]:
        return [
            {"image": image, "caption": caption}
            for image, caption in zip(self.images, self.captions, strict=True)
        ]

    def fill(self, client: QdrantClient, name: str, *, both: bool = True) -> None:
        """Create the collection as an application has it: the vector `old`, maybe with `new`."""
        sizes = {"old": 128, "new": 256} if both else {"old": 128}
        create_collection(client, name, sizes)
        fill_collection(client, name, self.ids, {"old": self.old}, self.payloads)


def vectors(model: str, keys: list[str]) -> np.ndarray:
    """Vectors of one model for these images or captions, float32, unit length."""
    table = pq.read_table(DATA / f"{model}.parquet")
    row = {key: number for number, key in enumerate(table["key"].to_pylist())}
    array = table["vector"].combine_chunks()
    matrix = array.values.to_numpy(zero_copy_only=False).reshape(len(array), -1)
    found = matrix[[row[key] for key in keys]].astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def make_judged_folder(
    folder: Path, clipart: Clipart, asked: int, *, images_from: int | None = None
) -> None:
    """Make an embedded collection with its configuration and judged queries.

    The first captions are the queries; from a certain row on, the images as well.
    """
    client = QdrantClient(path=str(folder / "qdrant"))
    clipart.fill(client, "clipart")
    client.close()
    relevant = [[str(each)] for each in clipart.ids[:asked]]
    queries = {"text": clipart.captions[:asked], "relevant": relevant}
    if images_from is not None:
        queries["image"] = [None] * images_from + clipart.images[images_from:asked]
    pq.write_table(pa.table(queries), folder / "queries.parquet")
    write_config(folder, "path:qdrant", "clipart", plan='queries = "queries.parquet"')


def write_config(folder: Path, url: str, collection: str, **changes: str) -> Path:
    """Write the fixed form of the configuration; `changes` are sections' lines, appended."""
    text = f"""
[qdrant]
url = "{url}"
collection = "{collection}"
vector = "old"
{changes.get("qdrant", "")}
[payload]
text = "caption"
image = "image"
{changes.get("payload", "")}
[old_model]
encoder = "precomputed"
path = "{DATA / "old.parquet"}"
stored = "image"

[new_model]
{changes.get("new_model", f'encoder = "precomputed"{chr(10)}path = "{DATA / "new.parquet"}"')}

[plan]
strategy = "{changes.get("strategy", "fastfill")}"
layout = "{changes.get("layout", "auto")}"
seed = 0
sample = 400
{changes.get("plan", "")}
"""
    path = folder / "xbtmigrate.toml"
    path.write_text(text, "utf-8")
    return path
