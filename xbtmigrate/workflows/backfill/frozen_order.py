"""Score every point once for the order of re-encoding, and keep that order for all later runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from xbtmigrate.backfill.goal import VectorLookup
from xbtmigrate.backfill.order_file import OrderedIds, make_sortable
from xbtmigrate.backfill.paced_gallery import PacedGallery
from xbtmigrate.ordering import score_points
from xbtmigrate.projectors import Projector
from xbtmigrate.protocols import Gallery, Ordering
from xbtmigrate.types import PointId, vectors_of
from xbtmigrate.workflows.backfill.tenant_order import TenantOrder
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
        tenants: The order of tenants, which comes before the ordering; None for none.
    """

    workspace: Workspace
    gallery: Gallery
    name: str
    projector: Projector | None
    read_hits: Callable[[], Mapping[PointId, int]] | None = None
    tenants: TenantOrder | None = None
    _loaded: tuple[Sequence[PointId], str] | None = None
    _ordering: Ordering | None = None
    _place: Callable[[Sequence[PointId]], np.ndarray] | None = None

    def check(self) -> None:
        """Check that the order is there or can be made, before anything is written.

        Raises:
            PluginError: The ordering needs something that is not there.
            ConfigError: The log of the traffic cannot be read as one, or names no tenant.
        """
        # The order itself is made only when encoding starts, after all projecting.
        if self._reloaded() is None:
            self._make()

    def at_pace(self, paced: PacedGallery) -> FrozenOrder:
        """Return the same order, which is made by reads that keep a pace."""
        tenants = self.tenants and replace(
            self.tenants, gallery=replace(paced, gallery=self.tenants.gallery)
        )
        return FrozenOrder(
            self.workspace, paced, self.name, self.projector, self.read_hits, tenants
        )

    def __call__(self) -> tuple[Sequence[PointId], str]:
        """Return the ids, first to be encoded first, and the digest of their order."""
        if self._loaded is None:
            ids = self._reloaded()
            if ids is None:
                batches = score_all_points(
                    self.gallery, self._make(), self.workspace.cache, self._place
                )
                ids = self.workspace.artefacts.save_order(
                    batches, self.name, self.tenants.asked if self.tenants else ""
                )
            # The journal keeps this digest, so a cursor is never applied to another order.
            self._loaded = ids, ids.digest()
        return self._loaded

    def _reloaded(self) -> OrderedIds | None:
        found = self.workspace.artefacts.load_order()
        return None if found is None else found[0]

    def _make(self) -> Ordering:
        """Return the ordering, and make what places tenants."""
        if self._ordering is None:
            hits = None if self.read_hits is None else self.read_hits()
            self._ordering = self.workspace.ordering(self.name, self.projector, hits)
            self._place = None if self.tenants is None else self.tenants.place(hits)
        return self._ordering


def score_all_points(
    gallery: Gallery,
    ordering: Ordering,
    known: VectorLookup,
    place: Callable[[Sequence[PointId]], np.ndarray] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Score every point by its old vector; points whose vector is already paid for come first.

    Args:
        gallery: The points.
        ordering: Gives the scores.
        known: New vectors paid for earlier.
        place: Gives the places of points' tenants; None for one place for all.
    """
    # Without `kind`, which needs the new vectors: 1.5 s instead of 4.9 s for 40,000 points
    # (docs/benchmarks-data-path.md).
    for batch in gallery.read({"source", "old"}):
        ids = batch["id"].to_pylist()
        side = vectors_of(batch, "side") if "side" in batch.schema.names else None
        paid = known.find(batch["content_hash"].to_pylist())[1]
        scores = score_points(ordering, ids, vectors_of(batch, "old"), side)
        yield make_sortable(ids, scores, paid, place and place(ids))
