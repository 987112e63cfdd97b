"""Spaces where the length of a vector counts: nothing is normalised on the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from tests.support.collections import fresh_name
from tests.support.command import answer_inside
from tests.support.corpus import (
    create_collection,
    fill_collection,
    write_precomputed_config,
    write_vectors,
)
from xbtmigrate import Projector

COUNT = 300


@pytest.mark.server
@pytest.mark.parametrize("distance", [models.Distance.DOT, models.Distance.EUCLID])
def test_vectors_of_any_length_are_projected_encoded_and_kept_as_they_are(
    distance: models.Distance, qdrant_url: str, tmp_path: Path
):
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((COUNT, 6)) * rng.uniform(0.5, 3, (COUNT, 1))
    maps = rng.standard_normal((6, 8)), rng.standard_normal((6, 12))
    keys = [f"text {n}" for n in range(COUNT)] + [f"title {n}" for n in range(COUNT)]
    noisy = np.concatenate([latent, latent + 0.1 * rng.standard_normal(latent.shape)])
    old, new = ((noisy @ each).astype(np.float32) for each in maps)
    for model, vectors in (("old", old), ("new", new)):
        write_vectors(tmp_path / f"{model}.parquet", keys, vectors)
    client = QdrantClient(url=qdrant_url, check_compatibility=False)
    name = fresh_name()
    create_collection(client, name, {"old": 8, "new": 12}, distance)
    payloads = [{"text": f"text {n}", "title": f"title {n}"} for n in range(COUNT)]
    fill_collection(client, name, range(COUNT), {"old": old[:COUNT]}, payloads)
    write_precomputed_config(
        tmp_path,
        qdrant_url,
        name,
        payload={"query": "title"},
        plan={"strategy": "fastfill", "sample": 200},
    )

    plan = answer_inside("plan", cwd=tmp_path)
    assert plan["target"]["distance"] == distance.value
    assert plan["measurement"]["basis"].startswith("known items")
    answer_inside("train-projector", "--kind", "procrustes,ridge", cwd=tmp_path)
    done = answer_inside("backfill", "--online", "--fraction", "0.5", cwd=tmp_path)
    assert (done["gallery"]["encoded"], done["gallery"]["projected"]) == (150, 150)

    projector = Projector.load(next((tmp_path / ".xbtmigrate").glob("*/projector/forward")))
    projected = projector.apply(old[:COUNT])
    np.testing.assert_allclose(projected, new[:COUNT], atol=0.05)
    records, _ = client.scroll(name, limit=COUNT, with_vectors=True)
    for record in records:
        encoded = record.payload["_xbtmigrate"]["kind"] == "encoded"
        truth = new[record.id] if encoded else projected[record.id]
        np.testing.assert_allclose(record.vector["new"], truth, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(record.vector["old"], old[record.id], rtol=1e-6)
    client.close()
