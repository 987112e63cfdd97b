"""The two real CLIP models make the vectors that are stored beside them."""

from __future__ import annotations

import base64

import numpy as np
import pyarrow.parquet as pq
import pytest

from xbtmigrate.encoders.open_clip import OpenClipEncoder
from xbtmigrate.types import Modality, vectors_of

pytestmark = pytest.mark.long
SAMPLE = 64


@pytest.fixture(scope="module")
def sample(shared_dir):
    """Pairs and stored vectors of the same rows."""
    pairs = pq.read_table(
        shared_dir / "data/clipart/pairs.parquet", columns=["id", "caption", "png"]
    )
    stored = pq.read_table(shared_dir / "data/clipart/embeddings.parquet")
    assert pairs["id"] == stored["id"]
    rows = np.sort(np.random.default_rng(0).choice(len(pairs), SAMPLE, replace=False))
    return pairs.take(rows), stored.take(rows)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["old", "new"])
def test_stored_vectors_are_reproduced(shared_dir, sample, name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pairs, stored = sample
    encoder = OpenClipEncoder(
        checkpoint=shared_dir / f"data/models/clip-{name}", device="cpu", threads=2
    )
    images = [base64.b64encode(png).decode() for png in pairs["png"].to_pylist()]
    captions = pairs["caption"].to_pylist()
    for items, modality, column in [
        (captions, Modality.TEXT, f"{name}_txt"),
        (images, Modality.IMAGE, f"{name}_img"),
    ]:
        vectors = encoder.encode(items, modality)
        expected = vectors_of(stored, column).astype(np.float32)
        assert vectors.shape == expected.shape == (SAMPLE, encoder.dimension)
        assert np.einsum("nd,nd->n", vectors, expected).min() >= 0.999
