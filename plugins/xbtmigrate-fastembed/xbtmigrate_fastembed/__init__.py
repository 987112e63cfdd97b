"""Encoder plugin: dense text models of FastEmbed, and ONNX models from a local folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xbtmigrate.encoders.mean_of_windows import cut_windows
from xbtmigrate.errors import ConfigError, EncoderError
from xbtmigrate.types import Modality, PointId, Vectors, digest_of

if TYPE_CHECKING:
    from fastembed import TextEmbedding

__all__ = ["FastEmbedEncoder"]


class FastEmbedEncoder:
    """A dense text model of FastEmbed. Nothing is loaded before the first use.

    Args:
        model: Name of a model that FastEmbed lists.
        folder: Local folder with the files of the model: an ONNX file, tokenizer.json and
            tokenizer_config.json. Without `model` it is a model of your own.
        model_file: The ONNX file in `folder`, for a model of your own.
        pooling: How its token vectors become one; "disabled" where the file has done it.
        normalize: Scale its vectors to unit length.
        query_prefix: Put before every query.
        passage_prefix: Put before every document.
        device: "auto" takes what onnxruntime finds.
        batch_size: Texts embedded at once.
        parallel: Processes for calls of at least `batch_size` texts, 0 for one per core.
        threads: CPU threads of each process; unset, onnxruntime chooses.

    Raises:
        ConfigError: Neither `model` nor `folder` is given, or a number is out of range.
    """

    def __init__(  # noqa: PLR0913  the options of the config table, each by name
        self,
        *,
        model: str | None = None,
        folder: Path | None = None,
        model_file: str = "model.onnx",
        pooling: Literal["mean", "cls", "last_token", "disabled"] = "mean",
        normalize: bool = True,
        query_prefix: str = "",
        passage_prefix: str = "",
        device: Literal["auto", "cpu", "cuda"] = "auto",
        batch_size: int = 256,
        parallel: int | None = None,
        threads: int | None = None,
    ) -> None:
        if model is None and folder is None:
            raise ConfigError(
                "no model is named",
                "give `model`, a name that FastEmbed lists, or `folder` with an ONNX model",
            )
        if min(batch_size, 1 if threads is None else threads) < 1 or (parallel or 0) < 0:
            raise ConfigError(
                "batch_size and threads must be at least 1, parallel at least 0",
                "correct the option",
            )
        self._name, self._folder, self._model_file = model, folder, model_file
        self._pooling, self._normalize = pooling, normalize
        self._query_prefix, self._passage_prefix = query_prefix, passage_prefix
        self._device, self._threads = device, threads
        self._batch_size, self._parallel = batch_size, parallel

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the model's files and of every option that changes the vectors."""
        # FastEmbed has no public name for the folder that it downloaded a model to.
        loaded: Any = self._model.model
        folder = self._folder or Path(loaded._model_dir)
        file = loaded.model_description.model_file
        settings = [
            *([self._name] if self._name else [self._pooling, str(self._normalize)]),
            self._query_prefix,
            self._passage_prefix,
        ]
        return f"fastembed:{digest_of([*_file_digests(folder, file), repr(settings)])}"

    @cached_property
    def dimension(self) -> int:
        """Length of the vectors, read from the vector of a probe."""
        # The list of models gives it too, but not for a model of one's own.
        return int(next(iter(self._model.embed(["probe"]))).shape[0])

    def encode(
        self, items: Sequence[str], modality: Modality, *, ids: Sequence[PointId] | None = None
    ) -> Vectors:
        """Embed texts; see `xbtmigrate.protocols.Encoder.encode`.

        Raises:
            EncoderError: The items are images, or the model cannot be loaded or fails.
        """
        if modality is not Modality.TEXT:
            raise EncoderError(
                "the encoder fastembed takes texts alone", 'use the encoder "open_clip" for images'
            )
        if not items:
            return np.empty((0, self.dimension), np.float32)
        # Some models embed queries and documents by different tasks.
        embed = self._model.query_embed if ids is None else self._model.passage_embed
        prefix = self._query_prefix if ids is None else self._passage_prefix
        texts = [prefix + text for text in items]
        try:
            vectors = list(embed(texts, batch_size=self._batch_size, parallel=self._parallel))
        # Errors of onnxruntime and of the worker processes share no narrower class.
        except Exception as error:
            raise EncoderError(
                f"{self._name or self._folder} failed: {error}", "lower batch_size or parallel"
            ) from error
        return np.array(vectors, np.float32)

    def find_truncated(self, texts: Sequence[str]) -> list[int]:
        """Return the rows of the documents that are longer than the model reads."""
        encoded = self._loaded.tokenizer.encode_batch(
            [self._passage_prefix + text for text in texts]
        )
        return [row for row, tokens in enumerate(encoded) if tokens.overflowing]

    def split_windows(self, text: str) -> list[tuple[str, int]]:
        """Split a document into windows that the model reads whole, with the tokens of each."""
        tokenizer = self._loaded.tokenizer
        whole = tokenizer.encode(text)
        places = [
            place
            for part in (whole, *whole.overflowing)
            for place, special in zip(part.offsets, part.special_tokens_mask, strict=True)
            if not special
        ]
        around = len(tokenizer.encode(self._passage_prefix).ids)
        return cut_windows(text, places, int(tokenizer.truncation["max_length"]) - around)

    @property
    def _loaded(self) -> Any:
        return self._model.model

    @cached_property
    def _model(self) -> TextEmbedding:
        try:
            from fastembed import TextEmbedding
            from fastembed.common.types import Device

            return TextEmbedding(
                self._name or self._registered(),
                cuda=Device(self._device),
                threads=self._threads,
                specific_model_path=str(self._folder) if self._folder else None,
            )
        # Errors of the hub, the ONNX file and the tokenizer share no narrower class.
        except Exception as error:
            raise EncoderError(
                f"cannot load the model {self._name or self._folder}: {error}",
                "check the name (TextEmbedding.list_supported_models() has all), or that the "
                "folder has the ONNX file, tokenizer.json and tokenizer_config.json",
            ) from error

    def _registered(self) -> str:
        """Register the model of the folder with FastEmbed; returns its name there."""
        from fastembed import TextEmbedding
        from fastembed.common.model_description import ModelSource, PoolingType

        options = [str(self._folder), self._model_file, self._pooling, str(self._normalize)]
        # FastEmbed knows models by name, in one table a process.
        name = f"xbtmigrate/{digest_of(options)}"
        if name not in {listed["model"] for listed in TextEmbedding.list_supported_models()}:
            TextEmbedding.add_custom_model(
                name,
                pooling=PoolingType[self._pooling.upper()],
                normalization=self._normalize,
                # Never read: the files are in the folder. A source must be named all the same.
                sources=ModelSource(hf=name),
                dim=0,
                model_file=self._model_file,
            )
        return name


def _file_digests(folder: Path, model_file: str) -> list[str]:
    """Hash the weights, those beside the ONNX file included, and the tokenizer, with their names.

    Raises:
        EncoderError: A file is missing.
    """
    weights = sorted(folder.glob(f"{model_file}*"))
    paths = [*weights, folder / "tokenizer.json", folder / "tokenizer_config.json"]
    digests = []
    for path in paths:
        with path.open("rb") as content:
            digests += [path.name, hashlib.file_digest(content, "sha256").hexdigest()]
    return digests
