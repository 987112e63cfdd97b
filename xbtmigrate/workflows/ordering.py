"""Workflows: the frozen order of re-encoding, made once from every point and then kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xbtmigrate.ordering import rank
from xbtmigrate.projectors import Projector
from xbtmigrate.protocols import Gallery
from xbtmigrate.types import PointId, vectors_of
from xbtmigrate.workflows.wiring import Migration


@dataclass(slots=True)
class FrozenOrder:
    """Makes the order of re-encoding once and reloads it ever after.

    Attributes:
        migration: The migration.
        gallery: Its points.
        name: Name of the ordering.
        projector: The forward projector, where the ordering may ask for one.
    """

    migration: Migration
    gallery: Gallery
    name: str
    projector: Projector | None
    _loaded: tuple[Sequence[PointId], str] | None = None

    def __call__(self) -> tuple[Sequence[PointId], str]:
        """Return the ids, first to be encoded first, and the digest of their order."""
        if self._loaded is None:
            self._loaded = self._reloaded() or self._made()
        return self._loaded

    def _reloaded(self) -> tuple[Sequence[PointId], str] | None:
        found = self.migration.artefacts.load_order()
        return None if found is None else found[:2]

    def _made(self) -> tuple[Sequence[PointId], str]:
        """Score every point by its old vector; what is already paid for comes first."""
        ordering = self.migration.ordering(self.name, self.projector)
        ids: list[PointId] = []
        found, paid = [np.empty(0, np.float32)], [np.empty(0, np.bool_)]
        for batch in self.gallery.read({"source", "old"}):
            members = batch["id"].to_pylist()
            found.append(ordering.score(members, vectors_of(batch, "old")))
            paid.append(self.migration.known.find(batch["content_hash"].to_pylist())[1])
            ids += members
        scores = np.nan_to_num(np.concatenate(found), nan=np.inf)
        finite = scores[np.isfinite(scores)]
        ahead = np.ptp(finite) + 1 if len(finite) else np.float32(1)
        scores += np.where(np.concatenate(paid), ahead, 0).astype(np.float32)
        places = rank(ids, scores)
        ordered = [ids[place] for place in places]
        return ordered, self.migration.artefacts.save_order(ordered, scores[places], self.name)
