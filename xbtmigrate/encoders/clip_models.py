"""Find the CLIP model that the options name, identify it, and load it by open_clip."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic_core

from xbtmigrate.errors import ConfigError, EncoderError
from xbtmigrate.types import digest_of

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

_CONFIG = "open_clip_config.json"
_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
_HUB = "hf-hub:"
_CHOICES = (
    f"give `checkpoint` (a folder with {_CONFIG} and {_WEIGHTS[0]}, or a weights file with"
    f' `config`), or `model` and `pretrained`, or `model = "{_HUB}..."`'
)


@dataclass(frozen=True, slots=True)
class ClipSource:
    """Where a model comes from.

    Attributes:
        name: Architecture, hub id, or for a local config the name of its folder.
        pretrained: Tag of published weights, None for a hub id and for local weights.
        weights: Local weights file.
        config: Local open_clip_config.json.
    """

    name: str
    pretrained: str | None = None
    weights: Path | None = None
    config: Path | None = None


@dataclass(frozen=True, slots=True)
class ClipModel:
    """A loaded model, with its tokenizer and its image preprocessing.

    Attributes:
        network: The open_clip model, in evaluation mode.
        tokenize: Texts to token ids of shape (n, context length).
        preprocess: RGB image to a float32 tensor of shape (3, height, width).
        settings: Architecture and preprocessing, as open_clip understood them.
    """

    network: Any
    tokenize: Callable[[list[str]], torch.Tensor]
    preprocess: Callable[[Image], torch.Tensor]
    settings: dict[str, Any]


def find_source(
    model: str | None, pretrained: str | None, checkpoint: Path | None, config: Path | None
) -> ClipSource:
    """Find the one model that the options name.

    Raises:
        ConfigError: They name none, or more than one.
        EncoderError: A local file is missing.
    """
    if checkpoint is None:
        return _published(model, pretrained, config)
    if pretrained is not None:
        raise ConfigError("`pretrained` and `checkpoint` name two sets of weights", _CHOICES)
    if model is not None and config is not None:
        raise ConfigError("`model` and `config` name two architectures", _CHOICES)
    weights = _weights_in(checkpoint) if checkpoint.is_dir() else _existing(checkpoint)
    if model is not None:
        return ClipSource(model, weights=weights)
    # A checkpoint in open_clip's format brings its config along, in the same folder.
    found = _existing(config or weights.parent / _CONFIG)
    return ClipSource(found.resolve().parent.name, weights=weights, config=found)


def read_settings(path: Path) -> dict[str, Any]:
    """Read an open_clip_config.json: {"model_cfg": ..., "preprocess_cfg": ...}.

    Raises:
        EncoderError: It is no such file.
    """
    hint = f"{_CONFIG} is a JSON object with model_cfg (embed_dim, vision_cfg, text_cfg)"
    try:
        settings: dict[str, Any] = pydantic_core.from_json(path.read_bytes())
        missing = {"embed_dim", "vision_cfg", "text_cfg"} - set(settings["model_cfg"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EncoderError(f"{path} is not an open_clip config: {error!r}", hint) from error
    if missing:
        raise EncoderError(f"{path} has no {', '.join(sorted(missing))} in model_cfg", hint)
    return settings


def local_digest(weights: Path, config: Path) -> str:
    """Hash a local model: its config, the files of its tokenizer, and its weights."""
    settings = read_settings(config)
    parts: list[str | bytes] = [json.dumps(settings, sort_keys=True)]
    for folder in sorted(set(_hugging_face_folders(settings, config).values())):
        for file in sorted(Path(folder).glob("*")):
            # The tokenizer's files too: with another vocabulary, equal weights give other vectors.
            if file.suffix in {".json", ".txt", ".model"}:
                parts += [file.name, file.read_bytes()]
    with weights.open("rb") as content:
        parts.append(hashlib.file_digest(content, "sha256").hexdigest())
    return digest_of(parts)


def load(source: ClipSource, device: torch.device, precision: str) -> ClipModel:
    """Load a model; a local one needs nothing from the hub.

    Raises:
        EncoderError: A package is missing, a file is damaged, or weights and config differ.
    """
    try:
        import open_clip
    except ImportError as error:
        raise EncoderError(
            f"open_clip cannot be imported: {error}", "pip install 'xbtmigrate[openclip]'"
        ) from error
    try:
        return _create(open_clip, source, device, precision)
    # open_clip and torch raise almost anything for a damaged file.
    except Exception as error:
        origin = source.weights or f"{source.name} {source.pretrained or ''}".strip()
        hint = (
            "weights and config must be whole and belong together, and the device must exist"
            if source.weights
            else "open_clip.list_pretrained() lists the names; published weights are downloaded"
        )
        raise EncoderError(f"cannot load the CLIP model {origin}: {error}", hint) from error


def with_additions(model: ClipModel, folder: Path) -> ClipModel:
    """Merge a PEFT directory into a loaded model; the files of the model stay as they are.

    Raises:
        EncoderError: peft is missing, or the directory does not fit the model.
    """
    try:
        from peft import PeftModel

        # Merged into the weights, the additions cost no time in each query.
        merged = PeftModel.from_pretrained(model.network, str(folder)).merge_and_unload()
    except Exception as error:
        raise EncoderError(
            f"cannot add {folder} to the CLIP model: {error}",
            "it must be a PEFT directory made for this model; pip install 'xbtmigrate[train]'",
        ) from error
    return replace(model, network=merged.eval())


def additions_digest(folder: Path) -> str:
    """Hash a PEFT directory.

    Raises:
        EncoderError: It is not a PEFT directory.
    """
    try:
        files = [folder / name for name in ("adapter_config.json", "adapter_model.safetensors")]
        return digest_of([file.read_bytes() for file in files])
    except OSError as error:
        raise EncoderError(
            f"{folder} is no PEFT directory: {error}", "train one with train-projector --lora"
        ) from error


def _published(model: str | None, pretrained: str | None, config: Path | None) -> ClipSource:
    if model is None or config is not None:
        raise ConfigError("no weights are named", _CHOICES)
    # Exactly one of the two: a hub id names its weights, an architecture needs a tag.
    if model.startswith(_HUB) == (pretrained is not None):
        problem = "brings its own weights" if pretrained else "has no weights without a tag"
        raise ConfigError(f"{model} {problem}", _CHOICES)
    return ClipSource(model, pretrained=pretrained)


def _weights_in(folder: Path) -> Path:
    found = [folder / name for name in _WEIGHTS if (folder / name).is_file()]
    if not found:
        raise EncoderError(f"{folder} has no {' nor '.join(_WEIGHTS)}", _CHOICES)
    return found[0]


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise EncoderError(f"{path} does not exist", _CHOICES)
    return path


def _hugging_face_folders(settings: dict[str, Any], config: Path) -> dict[str, str]:
    """Return the Hugging Face names in a config that are folders beside it, as absolute paths."""
    text = settings["model_cfg"]["text_cfg"]
    names = {key: text[key] for key in ("hf_model_name", "hf_tokenizer_name") if text.get(key)}
    paths = {key: (config.parent / name).resolve() for key, name in names.items()}
    return {key: str(path) for key, path in paths.items() if path.is_dir()}


def _create(open_clip: Any, source: ClipSource, device: torch.device, precision: str) -> ClipModel:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    preprocessing: dict[str, Any] = {}
    name = source.name
    if source.config is not None:
        settings = read_settings(source.config)
        preprocessing = settings.get("preprocess_cfg", {})
        name = _register(open_clip, settings, source.config)
    # Without `require_pretrained` a model whose weights cannot be loaded starts with random ones.
    # The text tower's weights are in the checkpoint, not in a second download.
    network = open_clip.create_model(
        name,
        pretrained=str(source.weights) if source.weights else source.pretrained,
        precision=precision,
        device=device,
        force_preprocess_cfg=preprocessing,
        pretrained_hf=False,
        require_pretrained=True,
    ).eval()
    # As open_clip read it, with defaults, so that the fingerprint covers what is applied.
    used = network.visual.preprocess_cfg
    return ClipModel(
        network,
        open_clip.get_tokenizer(name),
        image_transform_v2(PreprocessCfg(**used), is_train=False),
        {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": used},
    )


def _register(open_clip: Any, settings: dict[str, Any], config: Path) -> str:
    """Register a local architecture with open_clip, under a unique name."""
    architecture = deepcopy(settings["model_cfg"])
    architecture["text_cfg"] |= _hugging_face_folders(settings, config)
    # open_clip knows architectures by name, in one table a process: the digest keeps two models in
    # folders of the same name apart.
    content = json.dumps(architecture, sort_keys=True)
    name = f"{config.resolve().parent.name}-{digest_of([content])[:12]}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.json"
        path.write_text(content, encoding="utf-8")
        # Read at once and kept, so the file may be deleted.
        open_clip.add_model_config(path)
    return name
