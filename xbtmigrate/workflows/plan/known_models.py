"""Propose models by the length of their vectors: files beside the configuration, and known ones."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa

from xbtmigrate import registry
from xbtmigrate.encoders.precomputed import PrecomputedEncoder
from xbtmigrate.errors import XbtMigrateError
from xbtmigrate.types import Modality

KNOWN: Mapping[str, Mapping[str, int]] = {
    "openai": {
        "model=text-embedding-3-small": 1536,
        "model=text-embedding-ada-002": 1536,
        "model=text-embedding-3-large": 3072,
    },
    "fastembed": {
        "model=sentence-transformers/all-MiniLM-L6-v2": 384,
        "model=BAAI/bge-small-en-v1.5": 384,
        "model=BAAI/bge-small-en": 384,
        "model=BAAI/bge-base-en-v1.5": 768,
    },
    "sentence-transformers": {
        "model=sentence-transformers/all-MiniLM-L6-v2": 384,
        "model=BAAI/bge-small-en-v1.5": 384,
        "model=sentence-transformers/all-mpnet-base-v2": 768,
        "model=BAAI/bge-base-en-v1.5": 768,
        "model=BAAI/bge-large-en-v1.5": 1024,
        "model=BAAI/bge-m3": 1024,
    },
    "open_clip": {
        "model=ViT-B-32 pretrained=openai": 512,
        "model=ViT-B-32 pretrained=laion2b_s34b_b79k": 512,
        "model=ViT-L-14 pretrained=openai": 768,
        "model=ViT-H-14 pretrained=laion2b_s32b_b79k": 1024,
    },
}
"""Options of widely used models by encoder, with the length of their vectors."""

FASTEMBED = "fast-"
"""How FastEmbed's mixin and Qdrant's MCP server begin the name of a vector; the model's follows."""


def model_named(vector: str) -> Mapping[str, str] | None:
    """Return encoder and model by the name of a vector; None where it names no known one."""
    name = vector.removeprefix(FASTEMBED)
    for options in KNOWN["fastembed"] if name != vector else ():
        model = options.removeprefix("model=")
        if model.rpartition("/")[2].lower() == name:
            return {"encoder": "fastembed", "model": model}
    return None


def propose_models(
    folder: Path, size: int | None = None, stored: Modality = Modality.TEXT
) -> list[str]:
    """Return models as `--old-model` takes them, those of files first.

    Args:
        folder: Folder of the configuration.
        size: Length of the vectors; None for any.
        stored: What the model embeds: of the known encoders, only open_clip takes images.
    """
    installed = registry.list_names(registry.ENCODERS)
    known = [
        f"{encoder} {options}"
        for encoder, models in KNOWN.items()
        for options, length in models.items()
        if encoder in installed and size in (None, length)
        if stored is Modality.TEXT or encoder == "open_clip"
    ]
    return [*_files(folder, size), *known]


def _files(folder: Path, size: int | None) -> Iterator[str]:
    for path in sorted(folder.glob("*.parquet")):
        try:
            length = PrecomputedEncoder(path=path).dimension
        # A file of something else, such as judged queries, is none of a model.
        except (XbtMigrateError, pa.ArrowException):
            continue
        if size in (None, length):
            yield f"precomputed path={shlex.quote(path.name)}"
