"""Embed queries and points with any kind of encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from xbtmigrate.errors import EncoderError
from xbtmigrate.protocols import Encoder
from xbtmigrate.types import Modality, Vectors

AnyEncoder: TypeAlias = Any
"""An `xbtmigrate.protocols.Encoder`; an object with `embed_query(text)` (LangChain) or
`encode(items)` (sentence-transformers); or a function from a list of items to vectors."""


def embed(
    encoder: AnyEncoder, items: Sequence[str], modality: Modality, *, gallery: bool = False
) -> Vectors:
    """Embed queries, or points of the gallery.

    Args:
        encoder: The encoder, in any of the forms.
        items: n texts or image references.
        modality: Which of the two.
        gallery: Whether they are points to be found, for encoders that embed these differently.

    Returns:
        Shape (n, d).
    """
    # The most specific form first: LangChain's encoders distinguish queries and documents, and some
    # objects have several of these methods.
    if isinstance(encoder, Encoder):
        found: Any = encoder.encode(items, modality)
    elif modality is Modality.TEXT and gallery and hasattr(encoder, "embed_documents"):
        found = encoder.embed_documents(list(items))
    elif modality is Modality.TEXT and hasattr(encoder, "embed_query"):
        found = [encoder.embed_query(item) for item in items]
    elif hasattr(encoder, "encode"):
        found = encoder.encode(list(items))
    else:
        found = encoder(list(items))
    # Encoders return lists, float64 or tensors on the CPU; projectors and Qdrant use float32.
    return np.asarray(found, np.float32)


def check_vector(vector: Any, size: int, model: str) -> Vectors:
    """Check the size of a query vector.

    Returns:
        Shape (1, size).

    Raises:
        EncoderError: It has another size, or is not finite.
    """
    # Only the length distinguishes vectors of the two models.
    row = np.asarray(vector, np.float32).reshape(1, -1)
    if row.shape[1] != size:
        raise EncoderError(
            f"a vector of {row.shape[1]} numbers was given as a query of the {model} model, whose "
            f"vectors have {size}",
            f"embed the query with the {model} model",
        )
    if not np.isfinite(row).all():
        raise EncoderError(
            f"the query vector of the {model} model is not finite", "check the encoder"
        )
    return row
