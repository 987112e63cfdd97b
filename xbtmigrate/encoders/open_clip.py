"""Embed texts and images by the CLIP models of open_clip."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xbtmigrate.encoders.clip_models import (
    ClipModel,
    additions_digest,
    find_source,
    load,
    local_digest,
    read_settings,
    with_additions,
)
from xbtmigrate.encoders.images import ImagePolicy, open_images
from xbtmigrate.encoders.weights import weights_digest
from xbtmigrate.errors import ConfigError, EncoderError, UnreadableSourceError
from xbtmigrate.types import Modality, PointId, Vectors, digest_of

if TYPE_CHECKING:
    import torch


class OpenClipEncoder:
    """A CLIP model; its vectors have unit length, as CLIP compares them.

    A local model needs `checkpoint` alone if that is a folder with open_clip_config.json and
    weights; else `checkpoint` is the weights file and `config` (or the `model` name) its
    architecture. Without `checkpoint`, `model` is an open_clip architecture with its `pretrained`
    tag, or "hf-hub:ORGANISATION/NAME". Nothing is loaded before the first use.

    Args:
        model: Architecture or hub id.
        pretrained: Tag of published weights for the architecture.
        checkpoint: Folder or weights file of a local model.
        config: Its open_clip_config.json; Hugging Face folders named in it are relative to it.
        device: "auto" (CUDA, then MPS, then CPU) or a torch device.
        precision: Arithmetic of the model; the vectors are float32 in any case.
        lora: PEFT directory of additions to the model, such as train-projector --lora writes.
        batch_size: Items embedded at once.
        threads: CPU threads of torch; unset, torch chooses. It holds for the whole process.
        image_root: Folder that image paths start from, and may not leave; unset, the current one.
        transparent: "drop" transparency as open_clip does, or lay images on "white".
        allow_private_urls: Fetch images from private network addresses too.
        max_image_bytes: Largest image file.
        max_image_pixels: Largest image.

    Raises:
        ConfigError: The options do not name one model.
        EncoderError: A local file is missing, or the config is not an open_clip config.
    """

    def __init__(  # noqa: PLR0913  the options of the config table, each by name
        self,
        *,
        model: str | None = None,
        pretrained: str | None = None,
        checkpoint: Path | None = None,
        config: Path | None = None,
        device: str = "auto",
        precision: Literal["fp32", "fp16", "bf16"] = "fp32",
        lora: Path | None = None,
        batch_size: int = 64,
        threads: int | None = None,
        image_root: Path | None = None,
        transparent: Literal["drop", "white"] = "drop",
        allow_private_urls: bool = False,
        max_image_bytes: int = 32 * 2**20,
        max_image_pixels: int = 50_000_000,
    ) -> None:
        if batch_size < 1 or (threads is not None and threads < 1):
            raise ConfigError("batch_size and threads must be at least 1", "correct the option")
        self._source = find_source(model, pretrained, checkpoint, config)
        self._settings = read_settings(self._source.config) if self._source.config else None
        self._device, self._precision, self._threads = device, precision, threads
        self._lora, self._batch_size = lora, batch_size
        self._images = ImagePolicy(
            root=image_root,
            transparent=transparent,
            allow_private_urls=allow_private_urls,
            max_bytes=max_image_bytes,
            max_pixels=max_image_pixels,
        )

    @cached_property
    def fingerprint(self) -> str:
        """Digest of architecture, preprocessing, tokenizer, weights and precision.

        A local folder is known by its files. Anything else is known by the weights behind its name,
        so the model is loaded: a name that is given new weights is another model.
        """
        if self._source.weights and self._source.config:
            parts = [local_digest(self._source.weights, self._source.config)]
        else:
            settings = json.dumps(self._model.settings, sort_keys=True)
            parts = [settings, weights_digest(self._model.network)]
        if self._lora is not None:
            parts.append(additions_digest(self._lora))
        return f"open_clip:{digest_of([*parts, self._precision, self._images.transparent])}"

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        # A local config has the dimension without loading the model.
        settings = self._settings or self._model.settings
        return int(settings["model_cfg"]["embed_dim"])

    def encode(
        self, items: Sequence[str], modality: Modality, *, ids: Sequence[PointId] | None = None
    ) -> Vectors:
        """Embed texts or image references; see `xbtmigrate.protocols.Encoder.encode`.

        Raises:
            UnreadableSourceError: Some images cannot be opened.
            EncoderError: The model cannot be loaded, or fails.
        """
        del ids
        parts = self._texts(items) if modality is Modality.TEXT else self._opened(items)
        # The empty part gives an empty list of items the right width.
        vectors = np.concatenate([np.empty((0, self.dimension), np.float32), *parts])
        if not np.isfinite(vectors).all():
            raise EncoderError(
                f"{self._source.name} made vectors that are not finite in {self._precision}",
                'use precision = "fp32" or "bf16"',
            )
        return vectors

    def text_tower(self) -> tuple[Any, Callable[[list[str]], torch.Tensor]]:
        """Return the loaded network, whose `encode_text` embeds token ids, and its tokenizer.

        Raises:
            EncoderError: The model cannot be loaded.
        """
        # For LoRA, whose training needs gradients and so the network itself.
        return self._model.network, self._model.tokenize

    def image_tower(self) -> tuple[Any, Callable[[Sequence[str]], torch.Tensor]]:
        """Return the loaded network, whose `encode_image` embeds pixels, and what opens images.

        Raises:
            EncoderError: The model cannot be loaded.
        """
        import torch

        def open_pixels(references: Sequence[str]) -> torch.Tensor:
            return torch.stack(open_images(references, self._images, self._model.preprocess))

        return self._model.network, open_pixels

    def _texts(self, texts: Sequence[str]) -> Iterator[Vectors]:
        for _, part in _slices(texts, self._batch_size):
            tokens = self._model.tokenize(list(part))
            yield self._embedded(self._model.network.encode_text, tokens)

    def _opened(self, references: Sequence[str]) -> Iterator[Vectors]:
        """Embed images; after the first unreadable one the rest are only checked."""
        import torch

        failures: dict[int, str] = {}
        for start, part in _slices(references, self._batch_size):
            try:
                images = open_images(part, self._images, self._model.preprocess)
            # The call fails anyway: embedding the rest would be wasted, but naming every
            # unreadable image now saves further attempts.
            except UnreadableSourceError as error:
                failures |= {start + row: reason for row, reason in error.failures.items()}
                continue
            if not failures:
                yield self._embedded(self._model.network.encode_image, torch.stack(images))
        if failures:
            raise UnreadableSourceError(failures)

    def _embedded(self, tower: Callable[..., torch.Tensor], inputs: torch.Tensor) -> Vectors:
        import torch

        # A parameter of every CLIP model, used to find the device.
        weights = self._model.network.logit_scale
        # Token ids stay integers; pictures take the precision of the weights.
        if inputs.is_floating_point():
            inputs = inputs.to(_dtype(self._precision))
        try:
            with torch.inference_mode():
                # To float32 first: a length computed in 16 bits is off in the third digit.
                vectors = tower(inputs.to(weights.device)).float()
                unit: Vectors = torch.nn.functional.normalize(vectors, dim=-1).cpu().numpy()
        except RuntimeError as error:
            raise EncoderError(
                f"{self._source.name} failed: {error}",
                "lower batch_size, or choose another device or precision",
            ) from error
        return unit

    @cached_property
    def _model(self) -> ClipModel:
        try:
            import torch
        except ImportError as error:
            raise EncoderError(
                "CLIP models need torch", "pip install 'xbtmigrate[openclip]'"
            ) from error
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        model = load(self._source, _device(self._device), self._precision)
        return model if self._lora is None else with_additions(model, self._lora)


def _slices(items: Sequence[str], size: int) -> Iterator[tuple[int, Sequence[str]]]:
    for start in range(0, len(items), size):
        yield start, items[start : start + size]


def _dtype(precision: str) -> torch.dtype:
    import torch

    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        name = next((kind for kind, there in available.items() if there), "cpu")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise EncoderError(f"no such device: {name}", 'use "auto", "cpu" or "cuda"') from error
