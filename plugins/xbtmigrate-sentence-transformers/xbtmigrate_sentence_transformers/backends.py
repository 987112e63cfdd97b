"""Encoder plugin: what runs a model, its identity in each backend, and several processes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from xbtmigrate.encoders.weights import weights_digest

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Backend: TypeAlias = Literal["torch", "onnx", "openvino"]


def network_digest(model: SentenceTransformer, backend: Backend) -> str:
    """Digest of a model's weights, wherever its backend keeps them; hex."""
    # The state dict has the layers that torch runs in any backend, such as a dense one.
    digest = weights_digest(model)
    if backend == "torch":
        return digest
    network: Any = model[0].auto_model
    # Another backend rounds differently, so its name is part of the identity.
    parts = hashlib.sha256(f"{backend}:{digest}".encode())
    if backend == "onnx":
        file = Path(network.path)
        # Large models keep their weights in files beside it, under its name.
        for each in sorted(file.parent.glob(f"{file.name}*")):
            parts.update(hashlib.sha256(each.read_bytes()).digest())
    else:
        for operation in network.model.get_ordered_ops():
            parts.update(operation.get_type_name().encode())
            if operation.get_type_name() == "Constant":
                parts.update(np.ascontiguousarray(operation.data).tobytes())
    return parts.hexdigest()


@dataclass(slots=True)
class Processes:
    """Processes that share a model, started with the first call that needs them.

    They are daemons: they end with this process.

    Attributes:
        count: How many.
        device: "auto" or a torch device.
        threads: CPU threads of each; None for torch's choice.
    """

    count: int
    device: str
    threads: int | None
    _pool: dict[Any, Any] | None = field(default=None, init=False)

    def of(self, model: SentenceTransformer) -> dict[Any, Any]:
        """Return the pool of this model."""
        if self._pool is None:
            with _threads_of_children(self.threads):
                self._pool = model.start_multi_process_pool(self._devices())
        return self._pool

    def _devices(self) -> list[str]:
        import torch

        if self.device in ("auto", "cuda") and torch.cuda.is_available():
            return [f"cuda:{each % torch.cuda.device_count()}" for each in range(self.count)]
        return ["cpu" if self.device == "auto" else self.device] * self.count


@contextmanager
def _threads_of_children(threads: int | None) -> Iterator[None]:
    """Give the processes that are started here so many threads each."""
    name = "OMP_NUM_THREADS"
    before = os.environ.get(name)
    if threads is not None:
        os.environ[name] = str(threads)
    try:
        yield
    finally:
        if before is not None:
            os.environ[name] = before
        elif threads is not None:
            del os.environ[name]
