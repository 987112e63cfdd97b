"""Room `search`: one query embedded by whatever the application calls an encoder."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from xbtmigrate.errors import EncoderError
from xbtmigrate.protocols import Encoder
from xbtmigrate.types import Modality, Vectors

AnyEncoder: TypeAlias = Any
"""An `xbtmigrate.protocols.Encoder`; an object with `embed_query(text)` (LangChain) or
`encode(items)` (sentence-transformers); or a function from a list of items to vectors."""


def embed(encoder: AnyEncoder, item: str, modality: Modality) -> Vectors:
    """Embed one query.

    Args:
        encoder: The encoder, in any of the forms.
        item: A text or an image reference.
        modality: Which of the two.

    Returns:
        Shape (1, d).
    """
    if isinstance(encoder, Encoder):
        found: Any = encoder.encode([item], modality)
    elif modality is Modality.TEXT and hasattr(encoder, "embed_query"):
        found = [encoder.embed_query(item)]
    elif hasattr(encoder, "encode"):
        found = encoder.encode([item])
    else:
        found = encoder([item])
    return np.asarray(found, np.float32)


def checked(vector: Any, size: int, model: str) -> Vectors:
    """See that a query vector is of a model's size.

    Returns:
        Shape (1, size).

    Raises:
        EncoderError: It is of another size, or not finite.
    """
    row = np.asarray(vector, np.float32).reshape(1, -1)
    if row.shape[1] != size:
        raise EncoderError(
            f"a query vector of length {row.shape[1]} was given as one of the {model} model, "
            f"whose vectors have {size}",
            f"embed the query with the {model} model",
        )
    if not np.isfinite(row).all():
        raise EncoderError(
            f"the query vector of the {model} model is not finite", "check the encoder"
        )
    return row
