"""The protocols between the packages; a plugin implements one of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from xbtmigrate.migration.phases import MigrationRecord
from xbtmigrate.types import Direction, Kind, Modality, PointId, Vectors

__all__ = ["Encoder", "Gallery", "Journal", "Ordering", "Projector", "Written"]


@runtime_checkable
class Encoder(Protocol):
    """An embedding model."""

    @property
    def fingerprint(self) -> str:
        """Identity of the model and everything that changes its vectors; equal means same space."""
        ...

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        ...

    def encode(
        self, items: Sequence[str], modality: Modality, *, ids: Sequence[PointId] | None = None
    ) -> Vectors:
        """Embed texts or image references.

        Args:
            items: n texts, or n image references (path, URL, data URI, base64).
            modality: What the items are.
            ids: Point ids of the items where they come from the gallery, for encoders that look
                vectors up; None for queries.

        Returns:
            Float32 matrix of shape (n, dimension), every row finite.

        Raises:
            UnreadableSourceError: Some items cannot be embedded; names their rows.
            EncoderError: The model does not take this modality or failed as a whole.
        """
        ...


@runtime_checkable
class Projector(Protocol):
    """A map between the spaces of two models."""

    @property
    def direction(self) -> Direction:
        """Bridge (new -> old, for queries) or forward (old -> new, for the gallery)."""
        ...

    def apply(self, vectors: Vectors, side: Vectors | None = None) -> Vectors:
        """Map (n, d_in) float32 to (n, d_out) float32; `side` (n, d_side) where it takes one."""
        ...

    def uncertainty(self, vectors: Vectors, side: Vectors | None = None) -> npt.NDArray[np.float32]:
        """Predict the log-variance of the map's error for each input row; shape (n,)."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """Result of one write: ids stored, and ids that no longer exist."""

    written: Sequence[PointId]
    vanished: Sequence[PointId]


# One `read` serves scans and look-ups, so every pass sees the same columns and one contract suite
# covers the fake, the embedded mode and the server.
class Gallery(Protocol):
    """The points of one migrating collection, in either layout."""

    def count(self, kind: Kind | None = None) -> int:
        """Count exactly: all points, or those to which this plan gave this kind."""
        ...

    def read(
        self,
        columns: Collection[str],
        *,
        ids: Sequence[PointId] | None = None,
        after: PointId | None = None,
        expected: Kind | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Yield batches of points.

        Args:
            columns: Any of "source" (text, image, content_hash), "kind" (how the point was dealt
                with; it costs a look at its vectors), "old" and "new". Where the projector takes a
                side vector, "side" comes with "old".
            ids: Only these points, in this order; absent ones are left out.
            after: Only points behind this id in the store's own order: a cursor to resume from.
            expected: The kind that most of them are expected to have, so that what proves it is
                better read along with them.

        Raises:
            XbtMigrateError: On any failure; the end of the iterator is the end of the data.
        """
        ...

    def write(self, batch: pa.RecordBatch, kind: Kind) -> Written:
        """Store `new` with its provenance and wait until the store has applied it.

        Of a kind without a vector only the provenance is stored. A shadow gets a copy of the point
        either way.

        Args:
            batch: Columns id, content_hash (of the content the vector was made from) and new;
                for projected vectors also old (and side), which they were made from. Of points
                that get no vector id, content_hash and old (and side), as they were read.
            kind: How the vectors were made, or why there are none.

        Raises:
            VectorError: Some of `new` cannot be compared; nothing was stored.
        """
        ...

    def prune(self) -> int:
        """Remove from a shadow the points that left the source; returns how many (0 in place)."""
        ...


class Journal(Protocol):
    """The migration's record, kept beside the data it describes."""

    def load(self) -> MigrationRecord | None:
        """Read the record, or None if this migration was never started."""
        ...

    def acquire(self, record: MigrationRecord) -> MigrationRecord:
        """Take the lease, then store and return `record` with its owner.

        Raises:
            LeaseError: Another run holds the lease and is alive.
        """
        ...

    def save(self, record: MigrationRecord) -> None:
        """Store the record; only the holder of the lease may.

        Raises:
            LeaseError: The lease was lost.
        """
        ...

    def release(self) -> None:
        """Release the lease; safe to call twice."""
        ...


@runtime_checkable
class Ordering(Protocol):
    """A rule for which points are re-encoded first."""

    def score(self, ids: Sequence[PointId], old: Vectors) -> npt.NDArray[np.float32]:
        """Score points by their stored old vectors; the highest is re-encoded first. Shape (n,)."""
        ...
