"""`export-onnx` writes a file that a plain runtime answers from, and nothing by halves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from qdrant_client import QdrantClient

from tests.support.clipart import Clipart, vectors, write_config
from tests.support.command import answer_inside, inside
from xbtmigrate import Projector


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    client = QdrantClient(path=str(folder / "qdrant"))
    Clipart.load(200).fill(client, "clipart")
    client.close()
    write_config(folder, "path:qdrant", "clipart")
    code, _, said = inside("export-onnx", cwd=folder)
    assert code == 1
    assert "train-projector" in said
    assert not (folder / "bridge.onnx").exists()
    answer_inside("plan", cwd=folder)
    answer_inside("train-projector", "--kind", "ridge", cwd=folder)
    return folder


@pytest.mark.parametrize("direction", ["bridge", "forward"])
def test_a_plain_runtime_maps_as_the_projector(trained: Path, direction: str):
    document = answer_inside("export-onnx", "--direction", direction, cwd=trained)
    file = trained / document["file"]
    assert file.stat().st_size == document["bytes"]
    projector = Projector.load(trained / ".xbtmigrate" / "clipart-old" / "projector" / direction)
    assert document["digest"] == projector.digest
    given = vectors("new" if direction == "bridge" else "old", Clipart.load(20).images)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    [made] = session.run(None, {"vectors": given})
    np.testing.assert_allclose(made, projector.apply(given), atol=1e-5)


def test_a_file_that_is_there_stays(trained: Path):
    file = trained / "precious.onnx"
    file.write_text("precious")
    code, _, said = inside("export-onnx", "--out", file, cwd=trained)
    assert code == 2
    assert "--force" in said
    assert file.read_text() == "precious"
    answer_inside("export-onnx", "--out", file, "--force", cwd=trained)
    assert file.stat().st_size > 1000
    assert inside("export-onnx", "--out", trained, "--force", cwd=trained)[0] == 2
    assert not list(trained.glob(".*onnx*"))
