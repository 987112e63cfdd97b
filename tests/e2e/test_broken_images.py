"""Images that cannot be opened: told, counted and passed over, or refused when they are many.

Two real CLIP models of random weights embed tiny pictures that lie in the payload as data URIs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import ImageColor
from qdrant_client import models

from tests.support.checks import stored
from tests.support.collections import fresh_name
from tests.support.command import answer_inside, inside
from tests.support.tiny_clip import data_uri, write_tiny_clip
from xbtmigrate.encoders.open_clip import OpenClipEncoder
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.types import Modality

pytestmark = [
    pytest.mark.long,
    pytest.mark.server,
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
COUNT = 120
BROKEN = {
    "5": "data:image/png;base64,AAAA",
    "17": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA",
    "60": "no-such-file.png",
}


@pytest.fixture
def images() -> list[str]:
    colours = list(ImageColor.colormap)[:COUNT]
    return [BROKEN.get(str(row), data_uri(colour)) for row, colour in enumerate(colours)]


@pytest.fixture
def collection(server_db: Connection, images: list[str], tmp_path: Path) -> str:
    """Vectors of the old model for every picture, of pure chance for the broken ones."""
    for seed, model in enumerate(["old", "new"]):
        write_tiny_clip(tmp_path / model, seed=seed)
    rows = [row for row in range(COUNT) if str(row) not in BROKEN]
    vectors = np.random.default_rng(0).standard_normal((COUNT, 16)).astype(np.float32)
    encoder = OpenClipEncoder(checkpoint=tmp_path / "old", device="cpu", threads=2)
    vectors[rows] = encoder.encode([images[row] for row in rows], Modality.IMAGE)
    name, cosine = fresh_name(), models.Distance.COSINE
    config = {key: models.VectorParams(size=16, distance=cosine) for key in ("old", "new")}
    server_db.client.create_collection(name, vectors_config=config)
    payloads = [{"image": image, "caption": f"picture {row}"} for row, image in enumerate(images)]
    batch = models.Batch(
        ids=list(range(COUNT)), vectors={"old": vectors.tolist()}, payloads=payloads
    )
    server_db.client.upsert(name, batch, wait=True)
    return name


def config(folder: Path, url: str, name: str, max_missing: float) -> None:
    (folder / "xbtmigrate.toml").write_text(
        f"""
[qdrant]
url = "{url}"
collection = "{name}"
vector = "old"
[payload]
text = "caption"
image = "image"
[old_model]
encoder = "open_clip"
checkpoint = "old"
device = "cpu"
stored = "image"
[new_model]
encoder = "open_clip"
checkpoint = "new"
device = "cpu"
[plan]
strategy = "full"
sample = 100
max_missing = {max_missing}
"""
    )


def test_the_run_goes_on_without_them(
    collection: str, images: list[str], server_db: Connection, qdrant_url: str, tmp_path: Path
):
    config(tmp_path, qdrant_url, collection, 0.05)
    answer_inside("plan", cwd=tmp_path)
    done = answer_inside("backfill", "--online", "--order", "random", cwd=tmp_path)
    assert (done["status"], done["failed"]) == ("complete", len(BROKEN))
    assert done["quarantined"].keys() == BROKEN.keys()
    assert all(reason for reason in done["quarantined"].values())
    assert done["gallery"]["encoded"] == COUNT - len(BROKEN)
    encoder = OpenClipEncoder(checkpoint=tmp_path / "new", device="cpu", threads=2)
    for point, (vector, payload) in stored(server_db.client, collection, "new").items():
        if str(point) in BROKEN:
            assert not len(vector)
            assert payload["_xbtmigrate"]["kind"] == "refused"
        else:
            truth = encoder.encode([images[point]], Modality.IMAGE)[0]
            np.testing.assert_allclose(vector, truth, atol=1e-5)


def test_too_many_of_them_end_the_run(collection: str, qdrant_url: str, tmp_path: Path):
    config(tmp_path, qdrant_url, collection, 0.0)
    answer_inside("plan", cwd=tmp_path)
    code, _, err = inside("backfill", "--online", "--order", "random", cwd=tmp_path)
    assert code == 3
    assert f"of {COUNT} points cannot be embedded" in err
    assert any(f"point {point}:" in err for point in BROKEN)
    assert answer_inside("status", cwd=tmp_path)["phase"] == "paused"


def test_a_corrupt_checkpoint(collection: str, qdrant_url: str, tmp_path: Path):
    config(tmp_path, qdrant_url, collection, 0.05)
    weights = tmp_path / "new" / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    refused = answer_inside("plan", cwd=tmp_path, expect=1)
    assert refused["error"]["type"] == "EncoderError"
    assert "open_clip_model.safetensors" in refused["error"]["message"]
    assert refused["error"]["hint"]
