"""Encoder plugin: text models of sentence-transformers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from xbtmigrate.encoders.mean_of_windows import cut_windows
from xbtmigrate.errors import ConfigError, EncoderError
from xbtmigrate.types import Modality, PointId, Vectors, digest_of
from xbtmigrate_sentence_transformers.backends import Backend, Processes, network_digest

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["SentenceTransformersEncoder"]


class SentenceTransformersEncoder:
    """A sentence-transformers model. Nothing is loaded before the first use.

    Texts of the gallery are embedded as documents and texts without ids as queries, each with the
    prompt that the model brings for it, unless one is given here.

    Args:
        model: Name on the Hugging Face hub, or a local folder.
        device: "auto" (what sentence-transformers finds) or a torch device.
        batch_size: Texts embedded at once.
        normalize: Scale every vector to unit length.
        query_prefix: Put before every query instead of the model's own prompt; "" for none.
        passage_prefix: The same for documents.
        query_prompt_name: Name of the model's prompt for queries, instead of a prefix.
        passage_prompt_name: The same for documents.
        prompt: Earlier name of `passage_prefix`.
        query_prompt: Earlier name of `query_prefix`.
        truncate_dim: Keep only so many of the first dimensions, for models trained for it.
        max_seq_length: Tokens that are read of each text; unset, the model's own limit.
        trust_remote_code: Run Python code that comes with the model.
        threads: CPU threads of torch; unset, torch chooses. It holds for the whole process.
        backend: What runs the model; "onnx" and "openvino" export a model that has no such file.
        model_file: The file that the backend "onnx" or "openvino" runs, such as a quantized one;
            unset, its usual one.
        parallel: Processes for calls of at least `batch_size` texts, of the backend "torch". With
            several GPUs they take turns; the model of this process then stays on the CPU.

    Raises:
        ConfigError: A number is below 1, two options say what is put before a text, or an option
            belongs to another backend.
    """

    def __init__(  # noqa: PLR0913  the options of the config table, each by name
        self,
        *,
        model: str,
        device: str = "auto",
        batch_size: int = 32,
        normalize: bool = True,
        query_prefix: str | None = None,
        passage_prefix: str | None = None,
        query_prompt_name: str | None = None,
        passage_prompt_name: str | None = None,
        prompt: str | None = None,
        query_prompt: str | None = None,
        truncate_dim: int | None = None,
        max_seq_length: int | None = None,
        trust_remote_code: bool = False,
        threads: int | None = None,
        backend: Backend = "torch",
        model_file: str | None = None,
        parallel: int | None = None,
    ) -> None:
        numbers = [batch_size, max_seq_length, truncate_dim, threads, parallel]
        if any(number is not None and number < 1 for number in numbers):
            raise ConfigError(
                "batch_size, max_seq_length, truncate_dim, threads and parallel must be at least 1",
                "correct the option",
            )
        if backend == "torch" and model_file is not None:
            raise ConfigError("model_file is of the backends onnx and openvino", "set backend")
        if backend != "torch" and parallel is not None:
            raise ConfigError(
                f"parallel is of the backend torch, and {backend} uses all cores by itself",
                "leave out parallel or backend",
            )
        self._prefixes = {
            "query": _only(query_prefix=query_prefix, query_prompt=query_prompt),
            "document": _only(passage_prefix=passage_prefix, prompt=prompt),
        }
        self._prompt_names = {"query": query_prompt_name, "document": passage_prompt_name}
        _only(query_prefix=self._prefixes["query"], query_prompt_name=query_prompt_name)
        _only(passage_prefix=self._prefixes["document"], passage_prompt_name=passage_prompt_name)
        self._name, self._device, self._batch_size = model, device, batch_size
        self._normalize, self._max_seq_length = normalize, max_seq_length
        self._truncate_dim = truncate_dim
        self._trust_remote_code, self._threads = trust_remote_code, threads
        self._backend: Backend = backend
        self._model_file = model_file
        self._processes = Processes(parallel, device, threads) if parallel else None

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the weights and of every option that changes the vectors."""
        model = self._model
        # Prompts that no option replaces count as well: a new release of a model may change them.
        prompts = {**model.prompts, **{k: v for k, v in self._prompts.items() if v is not None}}
        modules = [type(module).__name__ for module in model]
        settings = [modules, sorted(prompts.items()), model.max_seq_length, self._normalize]
        # Without it, the identity that earlier migrations recorded.
        if self._truncate_dim is not None:
            settings.append(self._truncate_dim)
        digest = network_digest(model, self._backend)
        return f"sentence-transformers:{digest_of([digest, repr(settings)])}"

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return int(self._model.get_embedding_dimension() or 0)

    def encode(
        self, items: Sequence[str], modality: Modality, *, ids: Sequence[PointId] | None = None
    ) -> Vectors:
        """Embed texts; see `xbtmigrate.protocols.Encoder.encode`.

        Raises:
            EncoderError: The items are images, or the model cannot be loaded or fails.
        """
        if modality is not Modality.TEXT:
            raise EncoderError(
                "the encoder sentence-transformers takes texts alone",
                'use the encoder "open_clip" for images',
            )
        if not items:
            # The library returns shape (0,) here, without the length of the vectors.
            return np.empty((0, self.dimension), np.float32)
        model = self._model
        kind = "query" if ids is None else "document"
        embed = model.encode_query if ids is None else model.encode_document
        many = self._processes is not None and len(items) >= self._batch_size
        try:
            vectors = embed(
                list(items),
                prompt=self._prompts[kind],
                batch_size=self._batch_size,
                normalize_embeddings=self._normalize,
                show_progress_bar=False,
                convert_to_numpy=True,
                pool=self._processes.of(model) if self._processes and many else None,
            )
        # torch reports exhausted memory as a RuntimeError, hence the hint.
        except RuntimeError as error:
            raise EncoderError(f"{self._name} failed: {error}", "lower batch_size") from error
        return vectors.astype(np.float32, copy=False)

    def find_truncated(self, texts: Sequence[str]) -> list[int]:
        """Return the rows of the documents that are longer than the model reads."""
        model, prompt = self._model, self._passage_prompt
        tokens = model.tokenizer([prompt + text for text in texts], truncation=False, verbose=False)
        lengths = [len(each) for each in tokens["input_ids"]]
        limit = model.max_seq_length
        return [row for row, length in enumerate(lengths) if limit and length > limit]

    def split_windows(self, text: str) -> list[tuple[str, int]]:
        """Split a document into windows that the model reads whole, with the tokens of each."""
        model = self._model
        around = len(model.tokenizer(self._passage_prompt, verbose=False)["input_ids"])
        places = model.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )["offset_mapping"]
        return cut_windows(text, places, (model.max_seq_length or sys.maxsize) - around)

    @property
    def _passage_prompt(self) -> str:
        """What is put before documents, the model's own prompt as `encode_document` chooses it."""
        prompts, given = self._model.prompts, self._prompts["document"]
        names = ("document", "passage", "corpus")
        own = next((prompts[name] for name in names if name in prompts), None)
        return (own if given is None else given) or ""

    @cached_property
    def _prompts(self) -> dict[str, str | None]:
        """What is put before documents and queries; None for the model's own prompt."""
        prompts = self._model.prompts
        for name in filter(None, self._prompt_names.values()):
            if name not in prompts:
                raise EncoderError(
                    f"the model {self._name} has no prompt '{name}'",
                    f"its prompts: {', '.join(prompts) or 'none'}; or give query_prefix and "
                    "passage_prefix",
                )
        return {
            kind: prompts[name] if name else self._prefixes[kind]
            for kind, name in self._prompt_names.items()
        }

    @cached_property
    def _model(self) -> SentenceTransformer:
        try:
            # Imported on use: torch takes seconds to import, and most commands embed nothing.
            import torch
            from sentence_transformers import SentenceTransformer

            if self._threads is not None:
                torch.set_num_threads(self._threads)
            model = SentenceTransformer(
                self._name,
                device=None if self._device == "auto" else self._device,
                trust_remote_code=self._trust_remote_code,
                truncate_dim=self._truncate_dim,
                backend=self._backend,
                model_kwargs={"file_name": self._model_file} if self._model_file else None,
            )
        # Errors of the hub, the weights and the tokenizer share no narrower class.
        except Exception as error:
            raise EncoderError(
                f"cannot load the model {self._name}: {error}",
                "check the name or folder; a name is downloaded from the hub on first use"
                if self._backend == "torch"
                else f"check the name or folder, and pip install 'sentence-transformers"
                f"[{self._backend}]'",
            ) from error
        # Set on loading, because the fingerprint reads it from the model.
        if self._max_seq_length is not None:
            model.max_seq_length = self._max_seq_length
        return model


def _only(**options: str | None) -> str | None:
    """Return the one option that is given, None if none is."""
    given = {name: value for name, value in options.items() if value is not None}
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} say the same in two ways", "give one of them")
    return next(iter(given.values()), None)
