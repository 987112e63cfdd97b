"""Count the points of a gallery exactly, by how they got their new vector or why they have none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from xbtmigrate.documents.counts import GalleryCounts
from xbtmigrate.protocols import Gallery
from xbtmigrate.types import WITHOUT, Kind, WithoutVector


@dataclass(frozen=True, slots=True)
class Tally:
    """Exact counts of one gallery.

    Attributes:
        points: Points of the collection.
        of: Kind -> points that were dealt with so.
        applied: Points whose new vector an application has written since the cutover.
    """

    points: int
    of: Mapping[Kind, int] = field(default_factory=dict)
    applied: int = 0

    @classmethod
    def take(cls, gallery: Gallery) -> Self:
        """Count the points of a gallery."""
        return cls(gallery.count(), {kind: gallery.count(kind) for kind in Kind})

    @property
    def projected(self) -> int:
        """Points with a projected vector."""
        return self.of.get(Kind.PROJECTED, 0)

    @property
    def encoded(self) -> int:
        """Points with a true new vector."""
        return self.of.get(Kind.ENCODED, 0)

    @property
    def without_vector(self) -> int:
        """Points that get no new vector."""
        return sum(self.of.get(kind, 0) for kind in WITHOUT)

    @property
    def without_new(self) -> int:
        """Points that have no new vector, whether or not they will get one."""
        # Never below 0, because applications write between the separate counts.
        return max(0, self.points - self.projected - self.encoded - self.applied)

    @property
    def pending(self) -> int:
        """Points that are still due."""
        return max(0, self.without_new - self.without_vector)

    def with_those_of_applications(self, points: int, with_new: int) -> Self:
        """Return the counts after a cutover, when applications write new vectors themselves.

        Args:
            points: Points of the collection that applications use.
            with_new: Those that have a new vector, whoever made it.
        """
        # Applications write no marks, so vectors beyond the marked points are theirs.
        applied = max(0, with_new - self.projected - self.encoded)
        return replace(self, points=points, applied=applied)

    def document(self) -> GalleryCounts:
        """Return the counts as documents show them."""
        return {
            "points": self.points,
            "projected": self.projected,
            "encoded": self.encoded,
            "without_new": self.without_new,
            "without_vector": count_by_reason(self.of),
        }


def count_by_reason(counts: Mapping[Kind, int]) -> WithoutVector:
    """Return the numbers of points that get no new vector, by the reason."""
    return {
        "no_content": counts.get(Kind.NO_CONTENT, 0),
        "refused": counts.get(Kind.REFUSED, 0),
        "no_old_vector": counts.get(Kind.NO_OLD_VECTOR, 0),
    }


def describe_without_vector(counts: WithoutVector) -> str:
    """Describe how many points get no new vector, and why."""
    parts = [f"{count:,} {WITHOUT[Kind(kind)]}" for kind, count in counts.items() if count]
    return ", ".join(parts) or "none"
