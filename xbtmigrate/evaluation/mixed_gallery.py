"""Score a gallery during a backfill: the protocol of a serving, and the simple servings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from xbtmigrate.evaluation.retrieval import Rows
from xbtmigrate.scoring.centring import SHARES
from xbtmigrate.types import Channel, Scores

Blocks: TypeAlias = Mapping[Channel, Scores]
Mask: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float32]


class Serving(Protocol):
    """How queries are answered while only some of the points are re-encoded."""

    @property
    def name(self) -> str:
        """Name in tables and in the configuration."""
        ...

    @property
    def channels(self) -> frozenset[Channel]:
        """The channels whose scores it needs."""
        ...

    @property
    def by_state(self) -> bool:
        """Whether a point's score depends on its own state alone, not on that of others.

        Two scorings are then enough for a whole curve.
        """
        ...

    def score(self, blocks: Blocks, encoded: Mask) -> Scores:
        """Score a chunk of queries against the mixed gallery, higher is better.

        Args:
            blocks: The scores of each needed channel, shape (m, n). Those of `Channel.NEW` hold
                every row; a serving looks only at the re-encoded ones.
            encoded: Which rows are re-encoded, shape (n,).

        Returns:
            One score for each query and row, shape (m, n).
        """
        ...


class Keep:
    """The baseline: the old query on the old vectors, at every stage of a backfill."""

    name = "keep"
    channels = frozenset({Channel.OLD})
    by_state = True

    def score(self, blocks: Blocks, encoded: Mask) -> Scores:  # noqa: ARG002
        """Return the old scores."""
        return blocks[Channel.OLD]


@dataclass(frozen=True, slots=True)
class Single:
    """One space: the new query meets true new vectors and projected old ones (FCT, FastFill).

    Attributes:
        name: Name in tables.
        by_state: See `Serving`.
    """

    name: str = "single"
    by_state: bool = True

    @property
    def channels(self) -> frozenset[Channel]:
        """The channels whose scores it needs."""
        return frozenset({Channel.FORWARD, Channel.NEW})

    def score(self, blocks: Blocks, encoded: Mask) -> Scores:
        """Take the new score of re-encoded rows and the forward score of the rest."""
        return np.where(encoded, blocks[Channel.NEW], blocks[Channel.FORWARD])


@dataclass(frozen=True, slots=True)
class Centred:
    """The single space, searched with centred queries; see `scoring.centring`.

    Attributes:
        component: The component of each query along the space's mean, shape (n_q,).
        strengths: Part of it that is taken away, at each of `SHARES`, shape (n_q, len(SHARES)).
        along: The component of each point's projected (`FORWARD`) and true (`NEW`) vector, (n,).
        name: Name in tables.
    """

    component: Floats
    strengths: Floats
    along: Mapping[Channel, Floats]
    name: str = "single"
    channels: frozenset[Channel] = frozenset({Channel.FORWARD, Channel.NEW})

    def views(self, queries: slice, shares: Sequence[float]) -> list[tuple[Serving, Rows]]:
        """Return servings for a chunk of queries, each with the numbers of the shares it is for."""
        strengths = [np.interp(shares, SHARES, each) for each in self.strengths[queries]]
        # Often the same at several shares.
        distinct, which = np.unique(np.asarray(strengths, np.float32), axis=1, return_inverse=True)
        return [
            (
                _CentredChunk(each * self.component[queries], self.along),
                np.flatnonzero(which == number),
            )
            for number, each in enumerate(distinct.T)
        ]


@dataclass(frozen=True, slots=True)
class _CentredChunk:
    taken: Floats
    along: Mapping[Channel, Floats]
    name: str = "single"
    channels: frozenset[Channel] = frozenset({Channel.FORWARD, Channel.NEW})
    by_state: bool = True

    def score(self, blocks: Blocks, encoded: Mask) -> Scores:
        """Subtract the mean's contribution from the scores of one space."""
        raw = np.where(encoded, blocks[Channel.NEW], blocks[Channel.FORWARD])
        extent = np.where(encoded, self.along[Channel.NEW], self.along[Channel.FORWARD])
        # (q - s (q.m) m) . g = q.g - s (q.m)(g.m)
        return cast("Scores", raw - np.outer(self.taken, extent))


class Merge:
    """Two spaces, raw scores: the new query on re-encoded rows, the old one on the rest (Seo)."""

    name = "merge"
    channels = frozenset({Channel.OLD, Channel.NEW})
    by_state = True

    def score(self, blocks: Blocks, encoded: Mask) -> Scores:
        """Take the new score of re-encoded rows and the old score of the rest."""
        # Scores of two spaces in one list: if one space scores higher on average, its points
        # crowd out the other's.
        return np.where(encoded, blocks[Channel.NEW], blocks[Channel.OLD])


def mark_encoded(order: Rows, fraction: float) -> Mask:
    """Mark the rows that are re-encoded once a fraction of the order is done.

    Args:
        order: Every gallery row once, the first to be re-encoded first, shape (n,).
        fraction: Share of the order that is done, 0 to 1.

    Returns:
        Boolean mask over the gallery rows, shape (n,).
    """
    mask = np.zeros(len(order), dtype=np.bool_)
    # The first rows of the order: a larger fraction always contains a smaller one.
    mask[order[: round(fraction * len(order))]] = True
    return mask


def find_turns(order: Rows, fractions: Sequence[float]) -> Rows:
    """Return for each row the number of the first fraction at which `mark_encoded` marks it.

    Args:
        order: Every gallery row once, the first to be re-encoded first, shape (n,).
        fractions: Shares of the order that are done, ascending.

    Returns:
        Shape (n,); the number of fractions for a row that is marked at none.
    """
    turns = np.empty(len(order), np.intp)
    done = [round(fraction * len(order)) for fraction in fractions]
    turns[order] = np.searchsorted(done, np.arange(len(order)), side="right")
    return turns


def in_step(order: Rows, spent: Rows) -> Rows:
    """Spread the rows that training paid for evenly over an order; both groups keep their own.

    The projector has seen these rows, so an uncertainty puts them last, and a backfill writes them
    first, at no cost. In between orders are compared by what is still to be paid for. Queries
    rarely ask for these rows, and every share re-encoded then holds as large a part of what they
    do ask for.

    Args:
        order: Every gallery row once, shape (n,).
        spent: Rows whose new vectors training paid for.
    """
    paid, place = np.isin(order, spent), np.empty(len(order))
    for group in (paid, ~paid):
        place[group] = (np.arange(group.sum()) + 0.5) / max(1, group.sum())
    return order[np.argsort(place, kind="stable")]
