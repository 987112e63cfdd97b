"""Additions to the new text tower: they help, they can be loaded, and the model stays as it is."""

import numpy as np
import pytest

from tests.support.tiny_clip import data_uri, write_tiny_clip
from xbtmigrate.encoders.open_clip import OpenClipEncoder
from xbtmigrate.errors import EncoderError
from xbtmigrate.projectors import Affine, GaussianProcess, Manifest, Mlp, Projector
from xbtmigrate.training.kinds.lora import LoraTask, TextTower, fit_lora
from xbtmigrate.types import Direction, Distance, Modality, normalized

pytestmark = pytest.mark.long
WORDS = ["red", "green", "blue", "black", "white", "pink", "gold", "grey"]
TEXTS = [
    f"a {colour} {shape}" for colour in WORDS for shape in ("ball", "box", "cup", "hat", "key")
]


def draw(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def bridge(architecture):
    facts = Manifest(Direction.BRIDGE, "test", 16, 8, Distance.COSINE, Distance.COSINE)
    return Projector(facts, architecture)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.mark.parametrize(
    "architecture",
    [
        Affine(draw(16, 8), np.zeros(8, np.float32)),
        Mlp(draw(16, 8), (draw(16, 12), draw(12, 8)), (draw(12), draw(8))),
        GaussianProcess(
            *(draw(16, 8), np.zeros(8, np.float32), np.full(16, 0.5, np.float32)),
            *(draw(5, 16), draw(5, 8), draw(8) / 10, np.ones(2, np.float32)),
        ),
    ],
    ids=["affine", "mlp", "gaussian process"],
)
def test_tuned_queries_come_nearer_to_the_stored_vectors(model, tmp_path, architecture):
    folder, weights = tmp_path / "lora", (model / "open_clip_model.safetensors").read_bytes()
    old = normalized(draw(len(WORDS), 8)).repeat(5, axis=0)
    phi, base = bridge(architecture), OpenClipEncoder(checkpoint=model, threads=1)
    before = base.encode(TEXTS, Modality.TEXT)
    task = LoraTask(TEXTS, old, phi)
    report = fit_lora(TextTower(*base.text_tower()), task, folder, epochs=300, seed=0, threads=1)
    assert report.pairs == 36
    assert {path.name for path in folder.iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    np.testing.assert_array_equal(base.encode(TEXTS, Modality.TEXT), before)
    assert (model / "open_clip_model.safetensors").read_bytes() == weights
    tuned = OpenClipEncoder(checkpoint=model, lora=folder, threads=1)
    assert tuned.fingerprint != base.fingerprint
    nearness = [
        float((phi.apply(each.encode(TEXTS, Modality.TEXT)) * old).sum(axis=1).mean())
        for each in (base, tuned)
    ]
    assert nearness[1] > nearness[0] + 0.1, nearness
    image = [data_uri("red")]
    np.testing.assert_array_equal(
        tuned.encode(image, Modality.IMAGE), base.encode(image, Modality.IMAGE)
    )


def test_a_folder_without_additions_is_refused(model, tmp_path):
    encoder = OpenClipEncoder(checkpoint=model, lora=tmp_path)
    with pytest.raises(EncoderError, match="no PEFT directory"):
        _ = encoder.fingerprint
    with pytest.raises(EncoderError, match="cannot add"):
        encoder.encode(["a box"], Modality.TEXT)
