"""What is in Qdrant after a run, and whether it is right point by point."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from qdrant_client import QdrantClient

from xbtmigrate import Projector


class Corpus(Protocol):
    """Points as the application wrote them, and the vectors both models make of them."""

    ids: Sequence[int]
    old: np.ndarray
    new: np.ndarray

    @property
    def payloads(self) -> Sequence[dict[str, Any]]: ...


def stored(client: QdrantClient, name: str, vector: str) -> dict[int, tuple[np.ndarray, dict]]:
    """Vector and payload of every point; a point without the vector has an empty one."""
    found: dict[int, tuple[np.ndarray, dict]] = {}
    offset = None
    while True:
        records, offset = client.scroll(
            name, limit=50, offset=offset, with_vectors=True, with_payload=True
        )
        for record in records:
            vectors = record.vector if isinstance(record.vector, dict) else {"": record.vector}
            values = np.array(vectors.get(vector, []), np.float32)
            assert record.id not in found
            found[record.id] = (values, record.payload)
        if offset is None:
            return found


def check_vectors(
    client: QdrantClient,
    name: str,
    corpus: Corpus,
    folder: Path,
    *,
    encoded: int,
    vector: str = "new",
) -> None:
    """Every point has exactly one right new vector, and its payload as before."""
    projector = Projector.load(next((folder / ".xbtmigrate").glob("*/projector/forward")))
    projected = projector.apply(corpus.old)
    after = stored(client, name, vector)
    assert after.keys() == set(corpus.ids)
    kinds = []
    for row, point in enumerate(corpus.ids):
        found, payload = after[point]
        mark = payload.pop("_xbtmigrate")
        kinds.append(mark["kind"])
        truth = corpus.new[row] if mark["kind"] == "encoded" else projected[row]
        # Not every Qdrant scales what it stores: the embedded one keeps it as it came.
        np.testing.assert_allclose(found / np.linalg.norm(found), truth, atol=2e-6)
        assert payload == corpus.payloads[row]
    assert kinds.count("encoded") == encoded


def snapshot(client: QdrantClient, *names: str) -> dict[str, Any]:
    """All there is to compare: names of collections, and the whole points of some of them."""
    listed = sorted(each.name for each in client.get_collections().collections)
    content: dict[str, Any] = {"collections": listed}
    for name in (each for each in names if each in listed):
        records, _ = client.scroll(name, limit=10_000, with_vectors=True, with_payload=True)
        content[name] = [record.model_dump() for record in records]
    return content
