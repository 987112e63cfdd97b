"""Type of the counts that several documents share."""

from __future__ import annotations

from typing_extensions import TypedDict

from xbtmigrate.types import WithoutVector


class GalleryCounts(TypedDict):
    """Exact counts of a gallery."""

    points: int
    """Points of the collection."""
    projected: int
    """Points with a projected vector."""
    encoded: int
    """Points with an encoded vector."""
    without_new: int
    """Points without a new vector."""
    without_vector: WithoutVector
    """Those of them that get no new vector, by the reason."""
