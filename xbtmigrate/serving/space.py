"""A vector space to search: its collection, its vector, and the sign of its scores."""

from __future__ import annotations

from dataclasses import dataclass

from xbtmigrate.types import Distance


@dataclass(frozen=True, slots=True)
class ServingSpace:
    """A vector and the collection that holds it; the name is "" for an unnamed one."""

    collection: str
    name: str
    size: int
    distance: Distance

    @property
    def sign(self) -> float:
        """1 if a higher score is nearer, -1 for a distance."""
        # Qdrant returns similarities for Cosine and Dot, but plain distances for these two.
        return -1.0 if self.distance in (Distance.EUCLID, Distance.MANHATTAN) else 1.0
