"""What an application imports while it searches and writes: numpy and Qdrant, and no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import QdrantClient

from tests.support.clipart import Clipart, write_config
from tests.support.command import answer_inside
from xbtmigrate.evaluation.servings import SERVED
from xbtmigrate.projectors import (
    Affine,
    HeteroscedasticHead,
    Manifest,
    Mlp,
    NeighbourResidual,
    Projector,
)
from xbtmigrate.types import Direction, Distance

HEAVY = {"torch", "open_clip", "transformers", "peft", "sklearn", "onnxruntime"}
REPORT = "\nimport json, sys; print(json.dumps([*sys.modules]))"

SEARCHES = f"""
import numpy as np
from qdrant_client import QdrantClient, models
from xbtmigrate.serving import MigrationSearcher, wrap

client = QdrantClient(path="qdrant")
new, old = (np.eye(1, size, dtype=np.float32)[0] for size in (256, 128))
for serving in {SERVED}:
    searcher = MigrationSearcher.open(client, "clipart", serving=serving)
    answer = searcher.search(vector=new, old_vector=old, limit=3)
    assert answer.serving == serving and len(list(answer)) == 3, (serving, answer)
wrapped = wrap(client, "clipart", serving="single")
assert len(wrapped.query_points("clipart", query=new, using="old", limit=3).points) == 3
point = models.PointStruct(id=10**6, vector={{"old": old}}, payload={{"image": "x"}})
wrapped.upsert("clipart", [point])
[found] = client.retrieve("clipart", [10**6], with_vectors=True)
assert set(found.vector) == {{"old", "new"}}
client.close()
"""


def imported_by(code: str, folder: Path) -> set[str]:
    command = [sys.executable, "-c", code + REPORT]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_searches_and_writes_of_every_serving(tmp_path: Path):
    client = QdrantClient(path=str(tmp_path / "qdrant"))
    Clipart.load(200).fill(client, "clipart")
    client.close()
    write_config(tmp_path, "path:qdrant", "clipart")
    answer_inside("plan", cwd=tmp_path)
    answer_inside("train-projector", "--kind", "ridge", cwd=tmp_path)
    answer_inside("backfill", "--online", "--fraction", "0.5", cwd=tmp_path)
    imported = imported_by(SEARCHES, tmp_path)
    assert {"numpy", "qdrant_client", "xbtmigrate"} <= imported
    # Where FastEmbed is installed, the client library itself imports it, with onnxruntime.
    ours = imported - imported_by("import qdrant_client", tmp_path)
    assert ours.isdisjoint(HEAVY), ours & HEAVY


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


FORMS = {
    "linear": (Affine(draw(6, 4), draw(4)), None),
    "linear, neighbours": (
        Affine(draw(6, 4), draw(4)),
        NeighbourResidual(draw(20, 6), np.abs(draw(20)), 3),
    ),
    "mlp": (Mlp(draw(6, 4), (draw(6, 9), draw(9, 4)), (draw(9), draw(4))), None),
    "mlp, head": (
        Mlp(draw(6, 4), (draw(6, 9), draw(9, 9), draw(9, 4)), (draw(9), draw(9), draw(4))),
        HeteroscedasticHead(Mlp(draw(6, 1), (draw(6, 9), draw(9, 1)), (draw(9), draw(1)))),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_projector(form: str, tmp_path: Path):
    facts = Manifest(Direction.FORWARD, "test", 6, 4, Distance.COSINE, Distance.COSINE)
    Projector(facts, *FORMS[form]).save(tmp_path / "projector")
    imported = imported_by(
        """
import numpy as np
from xbtmigrate import Projector
projector = Projector.load("projector")
assert projector.apply(np.ones((1, 6), np.float32)).shape == (1, 4)
if projector.has_uncertainty:
    projector.uncertainty(np.ones((1, 6), np.float32))
""",
        tmp_path,
    )
    assert "numpy" in imported
    assert imported.isdisjoint(HEAVY | {"qdrant_client"}), imported
