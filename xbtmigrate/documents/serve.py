"""Types of the documents of `publish` and `export-onnx`."""

from __future__ import annotations

from typing_extensions import TypedDict

from xbtmigrate.documents.next_step import NextDocument
from xbtmigrate.types import Direction


class PublishDocument(NextDocument):
    """What an application needs to answer queries, as stored in Qdrant."""

    published: bool
    """Whether the files were stored (with `--yes`)."""
    digest: str | None
    """Digest of what is stored; null without `--yes`."""
    files: dict[str, int]
    """Size of each file in bytes."""
    bytes: int
    """Size of all files in bytes."""


class ExportDocument(TypedDict):
    """The ONNX model that was written."""

    file: str
    """Path of the file."""
    direction: Direction
    """The projector's direction."""
    kind: str
    """The projector's kind."""
    d_in: int
    """Length of the vectors the model takes."""
    d_out: int
    """Length of the vectors it gives."""
    digest: str
    """The projector's digest; also in the model's metadata."""
    difference: float
    """Largest difference from the projector on random vectors, relative to the largest
    coordinate."""
    bytes: int
    """Size of the file in bytes."""
