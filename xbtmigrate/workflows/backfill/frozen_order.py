"""Score every point once for the order of re-encoding, and keep that order for all later runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from xbtmigrate.backfill.goal import VectorLookup
from xbtmigrate.backfill.order_file import OrderedIds, make_sortable
from xbtmigrate.ordering import score_points
from xbtmigrate.projectors import Projector
from xbtmigrate.protocols import Gallery, Ordering
from xbtmigrate.types import PointId, vectors_of
from xbtmigrate.workflows.workspace import Workspace


@dataclass(slots=True)
class FrozenOrder:
    """The order of re-encoding: made on first use, reloaded from its file afterwards.

    Attributes:
        workspace: The migration's files.
        gallery: Its points.
        name: Name of the ordering.
        projector: The forward projector, where the ordering may need one.
        read_hits: Reads how often queries reached each point, where a log of them was given.
    """

    workspace: Workspace
    gallery: Gallery
    name: str
    projector: Projector | None
    read_hits: Callable[[], Mapping[PointId, int]] | None = None
    _loaded: tuple[Sequence[PointId], str] | None = None
    _ordering: Ordering | None = None

    def check(self) -> None:
        """Check that the order is there or can be made, before anything is written.

        Raises:
            PluginError: The ordering needs something that is not there.
            ConfigError: The log of the traffic cannot be read as one.
        """
        # The order itself is made only when encoding starts, after all projecting.
        if self._reloaded() is None:
            self._ordering = self._made()

    def __call__(self) -> tuple[Sequence[PointId], str]:
        """Return the ids, first to be encoded first, and the digest of their order."""
        if self._loaded is None:
            ids = self._reloaded()
            if ids is None:
                ordering = self._ordering or self._made()
                batches = score_all_points(self.gallery, ordering, self.workspace.cache)
                ids = self.workspace.artefacts.save_order(batches, self.name)
            # The journal keeps this digest, so a cursor is never applied to another order.
            self._loaded = ids, ids.digest()
        return self._loaded

    def _reloaded(self) -> OrderedIds | None:
        found = self.workspace.artefacts.load_order()
        return None if found is None else found[0]

    def _made(self) -> Ordering:
        hits = None if self.read_hits is None else self.read_hits()
        return self.workspace.ordering(self.name, self.projector, hits)


def score_all_points(
    gallery: Gallery, ordering: Ordering, known: VectorLookup
) -> Iterator[pa.RecordBatch]:
    """Score every point by its old vector; points whose vector is already paid for come first.

    Args:
        gallery: The points.
        ordering: Gives the scores.
        known: New vectors paid for earlier.
    """
    # Without `kind`, which needs the new vectors: 1.5 s instead of 4.9 s for 40,000 points
    # (docs/benchmarks-data-path.md).
    for batch in gallery.read({"source", "old"}):
        ids = batch["id"].to_pylist()
        side = vectors_of(batch, "side") if "side" in batch.schema.names else None
        paid = known.find(batch["content_hash"].to_pylist())[1]
        yield make_sortable(ids, score_points(ordering, ids, vectors_of(batch, "old"), side), paid)
