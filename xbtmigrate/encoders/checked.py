"""Check the results of encoders, because plugins may be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xbtmigrate.errors import EncoderError, UnreadableSourceError
from xbtmigrate.protocols import Encoder
from xbtmigrate.types import Modality, PointId, Vectors, is_unicode, usable


@dataclass(frozen=True, slots=True)
class CheckedEncoder:
    """Wraps an encoder, and names the items for which it fails or returns unusable vectors.

    Attributes:
        encoder: The encoder; its attributes beyond the protocol can be used here, too.
    """

    encoder: Encoder

    @property
    def fingerprint(self) -> str:
        """Identity of the model."""
        return self.encoder.fingerprint

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return self.encoder.dimension

    def __getattr__(self, name: str) -> Any:
        """Return optional members of the encoder, such as its price."""
        return getattr(self.encoder, name)

    def encode(
        self, items: Sequence[str], modality: Modality, *, ids: Sequence[PointId] | None = None
    ) -> Vectors:
        """Embed items; see `xbtmigrate.protocols.Encoder.encode`.

        Raises:
            UnreadableSourceError: Items are not Unicode, or their vectors cannot be compared.
            EncoderError: The vectors are not of the length that the encoder declares, or it names
                items that it was not given.
        """
        # Half a surrogate pair, as JSON can escape it, is not UTF-8: one fails the whole batch.
        broken = [row for row, item in enumerate(items) if not is_unicode(item)]
        if broken:
            raise UnreadableSourceError(dict.fromkeys(broken, f"its {modality} is not Unicode"))
        # Plugins may return lists or float64.
        try:
            vectors = np.asarray(self.encoder.encode(items, modality, ids=ids), np.float32)
        except UnreadableSourceError as error:
            # Callers leave out these rows and try again; without a named row they would never end.
            if not error.failures or not error.failures.keys() <= {*range(len(items))}:
                raise EncoderError(
                    f"the encoder refused rows {sorted(error.failures)} of {len(items)} items",
                    "correct the encoder: it must name one or more of the rows that it was given",
                ) from error
            raise
        if vectors.shape != (len(items), self.dimension):
            raise EncoderError(
                f"the encoder returned vectors of shape {vectors.shape} for {len(items)} items, "
                f"not {(len(items), self.dimension)}",
                "correct the encoder, or its option for the length of the vectors",
            )
        # Single rows can be unusable: a zero vector, or an overflow in half precision.
        lost = np.flatnonzero(~usable(vectors)).tolist()
        if lost:
            reason = "the model made a vector for it that is not finite, zero, or of absurd length"
            raise UnreadableSourceError(dict.fromkeys(lost, reason))
        return vectors
