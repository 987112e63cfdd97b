"""CLIP models from local files: options, identity, preprocessing, and damaged files."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest

from tests.support.tiny_clip import data_uri, write_tiny_clip
from xbtmigrate.encoders.open_clip import OpenClipEncoder
from xbtmigrate.errors import ConfigError, EncoderError, UnreadableSourceError
from xbtmigrate.types import Modality

pytestmark = pytest.mark.long
TEXTS = ["a red fox", "the sea"]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return write_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def folder(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "clip")


def encoder_of(folder, **options):
    return OpenClipEncoder(checkpoint=folder, device="cpu", threads=2, **options)


def change_config(folder, section, **values):
    path = folder / "open_clip_config.json"
    settings = json.loads(path.read_text())
    settings[section] |= values
    path.write_text(json.dumps(settings))


def test_vectors_are_those_of_open_clip(folder):
    """Same numbers as open_clip's own calls, for both towers."""
    import open_clip
    import torch

    config = json.loads((folder / "open_clip_config.json").read_text())
    architecture = folder / "reference-tiny.json"
    architecture.write_text(json.dumps(config["model_cfg"]))
    open_clip.add_model_config(architecture)
    options = {f"image_{name}": value for name, value in config["preprocess_cfg"].items()}
    weights = str(folder / "open_clip_model.safetensors")
    model, _, preprocess = open_clip.create_model_and_transforms(
        "reference-tiny", pretrained=weights, **options
    )
    from xbtmigrate.encoders.images import ImagePolicy, open_images

    pictures = [data_uri("red"), data_uri("blue")]
    images = torch.stack(open_images(pictures, ImagePolicy(), preprocess))
    with torch.inference_mode():
        tokens = open_clip.get_tokenizer("reference-tiny")(TEXTS)
        texts = model.eval().encode_text(tokens, normalize=True).numpy()
        seen = model.encode_image(images, normalize=True).numpy()
    encoder = encoder_of(folder)
    np.testing.assert_allclose(encoder.encode(TEXTS, Modality.TEXT), texts, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(pictures, Modality.IMAGE), seen, atol=1e-5)


def test_preprocessing_of_the_config_is_used(folder):
    pictures = [data_uri("red")]
    squashed = encoder_of(folder).encode(pictures, Modality.IMAGE)
    change_config(folder, "preprocess_cfg", resize_mode="shortest")
    cropped = encoder_of(folder).encode(pictures, Modality.IMAGE)
    change_config(folder, "preprocess_cfg", mean=[0.1, 0.1, 0.1])
    shifted = encoder_of(folder).encode(pictures, Modality.IMAGE)
    assert np.abs(squashed - cropped).max() > 1e-3
    assert np.abs(cropped - shifted).max() > 1e-3


def test_folder_file_and_config_name_the_same_model(folder, tmp_path):
    moved = shutil.copy(folder / "open_clip_config.json", tmp_path / "architecture.json")
    weights = folder / "open_clip_model.safetensors"
    by_folder = encoder_of(folder).fingerprint
    assert encoder_of(weights).fingerprint == by_folder
    assert encoder_of(weights, config=moved).fingerprint == by_folder


def test_fingerprint_follows_everything_that_changes_vectors(folder, tmp_path):
    found = [
        encoder_of(folder).fingerprint,
        encoder_of(folder, precision="bf16").fingerprint,
        encoder_of(folder, transparent="white").fingerprint,
        encoder_of(write_tiny_clip(tmp_path / "other", seed=1)).fingerprint,
    ]
    change_config(folder, "preprocess_cfg", resize_mode="shortest")
    found.append(encoder_of(folder).fingerprint)
    assert len(set(found)) == 5
    assert encoder_of(folder, batch_size=3).fingerprint == found[-1]


def test_weights_for_a_known_architecture_are_known_by_their_values(folder, monkeypatch):
    import open_clip

    architecture = folder / "tiny-known.json"
    settings = json.loads((folder / "open_clip_config.json").read_text())
    architecture.write_text(json.dumps(settings["model_cfg"]))
    open_clip.add_model_config(architecture)
    weights = folder / "open_clip_model.safetensors"
    encoders = [encoder_of(weights, model="tiny-known") for _ in range(2)]
    assert encoders[0].dimension == 16
    assert encoders[0].fingerprint == encoders[1].fingerprint
    write_tiny_clip(folder, seed=1)
    assert encoder_of(weights, model="tiny-known").fingerprint != encoders[0].fingerprint


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 1e-2), ("bf16", 5e-2)])
def test_lower_precision_stays_near(folder, precision, tolerance):
    exact, rough = encoder_of(folder), encoder_of(folder, precision=precision)
    for items, modality in [(TEXTS, Modality.TEXT), ([data_uri("red")], Modality.IMAGE)]:
        vectors = rough.encode(items, modality)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, exact.encode(items, modality), atol=tolerance)


def test_rows_of_unreadable_images_across_batches(folder):
    encoder = encoder_of(folder, batch_size=2)
    good, bad = data_uri("red"), "no such file.png"
    with pytest.raises(UnreadableSourceError) as caught:
        encoder.encode([good, good, bad, good, good, bad, bad], Modality.IMAGE)
    assert set(caught.value.failures) == {2, 5, 6}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"model": "ViT-B-32"},
        {"model": "hf-hub:a/b", "pretrained": "openai"},
        {"pretrained": "openai"},
        {"batch_size": 0, "model": "ViT-B-32", "pretrained": "openai"},
    ],
)
def test_options_that_name_no_model(options):
    with pytest.raises(ConfigError) as caught:
        OpenClipEncoder(**options)
    assert caught.value.hint


def test_options_that_name_two_models(folder):
    config = folder / "open_clip_config.json"
    with pytest.raises(ConfigError, match="two sets of weights"):
        encoder_of(folder, pretrained="openai")
    with pytest.raises(ConfigError, match="two architectures"):
        encoder_of(folder, model="ViT-B-32", config=config)
    with pytest.raises(ConfigError, match="no weights"):
        OpenClipEncoder(model="ViT-B-32", config=config)


def test_files_that_are_missing_are_told_at_once(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    for checkpoint in [tmp_path / "none", tmp_path / "empty"]:
        with pytest.raises(EncoderError) as caught:
            encoder_of(checkpoint)
        assert caught.value.hint
    (folder / "open_clip_config.json").unlink()
    with pytest.raises(EncoderError, match=r"open_clip_config\.json does not exist"):
        encoder_of(folder)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"model_cfg": {"embed_dim": 3}}', "\xff"])
def test_configs_that_are_none(folder, content):
    (folder / "open_clip_config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(EncoderError, match=r"open_clip_config\.json") as caught:
        encoder_of(folder)
    assert "model_cfg" in caught.value.hint


def truncate(folder):
    weights = folder / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def scribble(folder):
    (folder / "open_clip_model.safetensors").write_bytes(b"not weights at all, sixteen or more")


def resize(folder):
    change_config(folder, "model_cfg", embed_dim=24)


def misname(folder):
    change_config(folder, "model_cfg", vision_cfg={"image_size": 32, "unheard_of": 1})


def miswrite(folder):
    change_config(folder, "preprocess_cfg", interpolation="sharp")


@pytest.mark.parametrize("damage", [truncate, scribble, resize, misname, miswrite])
def test_damage_is_a_clear_error_on_load(folder, damage):
    damage(folder)
    encoder = encoder_of(folder)
    with pytest.raises(EncoderError, match="cannot load the CLIP model") as caught:
        encoder.encode(["x"], Modality.TEXT)
    assert "belong together" in caught.value.hint


def test_unknown_names_and_devices(folder):
    with pytest.raises(EncoderError, match="No-Such-Model"):
        OpenClipEncoder(model="No-Such-Model", pretrained="openai").encode(["x"], Modality.TEXT)
    with pytest.raises(EncoderError, match="no such device: warp"):
        OpenClipEncoder(checkpoint=folder, device="warp").encode(["x"], Modality.TEXT)


def test_a_missing_package_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(EncoderError) as caught:
        encoder_of(folder).encode(["x"], Modality.TEXT)
    assert caught.value.hint == "pip install 'xbtmigrate[openclip]'"


def test_constructing_reads_no_weights(folder):
    scribble(folder)
    assert encoder_of(folder).dimension == 16
