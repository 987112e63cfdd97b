"""A side vector of the same point fed to the two-branch network, on the real server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from tests.support.collections import fresh_name
from tests.support.command import answer_inside, inside
from tests.support.corpus import create_collection, write_precomputed_config, write_vectors
from xbtmigrate import Projector
from xbtmigrate.types import normalized

pytestmark = pytest.mark.server
COUNT = 400
LACKING = 7
"""The point without a side vector."""


def configure(folder: Path, url: str, name: str, *, side: str, layout: str) -> None:
    plan = {"strategy": "forward", "layout": layout, "sample": 200}
    write_precomputed_config(folder, url, name, qdrant={"side_vector": side}, plan=plan)


@pytest.fixture
def world(qdrant_url: str, tmp_path: Path) -> tuple[QdrantClient, str, dict[str, np.ndarray]]:
    """Points of which the old vector knows one half and the side vector the other."""
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((COUNT, 8))
    seen = {"old": latent[:, :4], "side": latent[:, 4:], "new": latent}
    found = {
        name: normalized((part @ rng.standard_normal((part.shape[1], size))).astype(np.float32))
        for (name, part), size in zip(seen.items(), (8, 5, 12), strict=True)
    }
    for model in ("old", "new"):
        texts = [f"text {n}" for n in range(COUNT)]
        write_vectors(tmp_path / f"{model}.parquet", texts, found[model])
    client, name = QdrantClient(url=qdrant_url, check_compatibility=False), fresh_name()
    create_collection(client, name, {"old": 8, "side": 5, "new": 12})
    points = [
        models.PointStruct(
            id=n,
            vector={
                each: found[each][n].tolist() for each in ("old", "side")[: 1 + (n != LACKING)]
            },
            payload={"text": f"text {n}"},
        )
        for n in range(COUNT)
    ]
    client.upsert(name, points, wait=True)
    return client, name, found


@pytest.mark.parametrize("layout", ["in_place", "shadow"])
@pytest.mark.long
def test_the_side_vector_is_read_in_training_backfill_and_verification(
    layout: str, world: tuple[QdrantClient, str, dict[str, np.ndarray]], qdrant_url: str,
    tmp_path: Path,
):  # fmt: skip
    client, name, found = world
    configure(tmp_path, qdrant_url, name, side="side", layout=layout)
    plan = answer_inside("plan", cwd=tmp_path)
    trained = answer_inside("train-projector", "--kind", "ridge,fct", cwd=tmp_path)
    forward, bridge = (trained["directions"][each] for each in ("forward", "bridge"))
    # Both kinds take side vectors; without one, half of what the new model sees is missing.
    assert forward["side_vector"] == "side"
    assert {each["kind"] for each in forward["candidates"]} == {"ridge", "fct"}
    assert bridge["side_vector"] is None
    assert {each["settings"].get("side", False) for each in forward["candidates"]} == {False, True}

    done = answer_inside("backfill", "--online", cwd=tmp_path)
    assert done["gallery"]["projected"] == COUNT - 1
    projector = Projector.load(Path(forward["folder"]))
    kept = [n for n in range(COUNT) if n != LACKING]
    expected = projector.apply(found["old"][kept], found["side"][kept])
    target = plan["target"]["collection"]
    records = client.retrieve(target, kept, with_vectors=["new"])
    stored = {record.id: record.vector["new"] for record in records}
    np.testing.assert_allclose([stored[n] for n in kept], expected, atol=1e-4)

    moved = normalized(np.ones((1, 5), np.float32))
    client.update_vectors(
        name, [models.PointVectors(id=3, vector={"side": moved[0].tolist()})], wait=True
    )
    assert answer_inside("verify", cwd=tmp_path, expect=3)["mismatches"]["stale"] == 1
    answer_inside("backfill", "--online", cwd=tmp_path)
    (record,) = client.retrieve(target, [3], with_vectors=["new"])
    again = projector.apply(found["old"][[3]], moved)[0]
    np.testing.assert_allclose(record.vector["new"], again, atol=1e-4)


def test_a_collection_without_the_side_vector_is_refused(
    world: tuple[QdrantClient, str, dict[str, np.ndarray]], qdrant_url: str, tmp_path: Path
):
    _, name, _ = world
    configure(tmp_path, qdrant_url, name, side="aside", layout="in_place")
    code, _, err = inside("plan", cwd=tmp_path)
    assert code == 1
    assert "no dense vector 'aside'" in err
    assert "'side'" in err
    assert not list(tmp_path.glob(".xbtmigrate/*/plan.json"))


def test_the_side_vector_is_none_of_the_two(tmp_path: Path):
    configure(tmp_path, "http://localhost:1", "c", side="old", layout="in_place")
    code, _, err = inside("plan", cwd=tmp_path)
    assert code == 2
    assert "side_vector" in err
