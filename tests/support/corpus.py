"""Build a collection and the files of its models, for tests and benchmarks alike."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from qdrant_client import QdrantClient, models

from xbtmigrate.types import vector_array


def write_vectors(path: Path, keys: Sequence[str], vectors: np.ndarray) -> None:
    """Write the file of a model that the encoder `precomputed` reads.

    Args:
        path: The file, a Parquet.
        keys: Texts or image references, n of them.
        vectors: Their vectors, float32 (n, d).
    """
    pq.write_table(pa.table({"key": list(keys), "vector": vector_array(vectors)}), path)


def create_collection(
    client: QdrantClient,
    name: str,
    sizes: Mapping[str, int],
    distance: models.Distance = models.Distance.COSINE,
    **settings: Any,
) -> None:
    """Create a collection of named vectors; `settings` go to Qdrant as they are."""
    params = {key: models.VectorParams(size=each, distance=distance) for key, each in sizes.items()}
    client.create_collection(name, vectors_config=params, **settings)


def fill_collection(
    client: QdrantClient,
    name: str,
    ids: Sequence[int],
    vectors: Mapping[str, np.ndarray],
    payloads: Sequence[Mapping[str, Any]],
) -> None:
    """Write points, row by row of ids, vectors by their names, and payloads, and wait for them."""
    rows = {key: each.tolist() for key, each in vectors.items()}
    batch = models.Batch(ids=list(ids), vectors=rows, payloads=[dict(each) for each in payloads])
    client.upsert(name, batch, wait=True)


def write_precomputed_config(
    folder: Path, url: str, collection: str, **more: Mapping[str, object]
) -> None:
    """Write the configuration of a collection of texts whose models are files beside it.

    Args:
        folder: Where xbtmigrate.toml is written.
        url: The server.
        collection: The collection, with the old vector under the name "old".
        **more: Keys to add or change, by table (qdrant, payload, old_model, new_model, plan); those
            that are None are left out.
    """
    tables: dict[str, dict[str, object]] = {
        "qdrant": {"url": url, "collection": collection, "vector": "old"},
        "payload": {"text": "text"},
        "old_model": {"encoder": "precomputed", "path": "old.parquet", "stored": "text"},
        "new_model": {"encoder": "precomputed", "path": "new.parquet"},
        "plan": {},
    }
    lines = []
    for table, values in more.items():
        tables[table] |= values
    for table, values in tables.items():
        # JSON writes strings, numbers and booleans as TOML does.
        shown = [f"{key} = {json.dumps(each)}" for key, each in values.items() if each is not None]
        lines += [f"[{table}]", *shown]
    (folder / "xbtmigrate.toml").write_text("\n".join(lines), "utf-8")
