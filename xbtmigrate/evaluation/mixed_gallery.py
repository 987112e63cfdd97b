"""Score a gallery in the middle of a backfill: the protocol of a serving, and the simple ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from xbtmigrate.evaluation.retrieval import Rows
from xbtmigrate.types import Channel, Scores

Blocks: TypeAlias = Mapping[Channel, Scores]
Mask: TypeAlias = npt.NDArray[np.bool_]


class Serving(Protocol):
    """How queries are answered while only some of the points are re-encoded."""

    @property
    def name(self) -> str:
        """Name in tables and in the configuration."""
        ...

    @property
    def channels(self) -> frozenset[Channel]:
        """The scores it needs."""
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

    def score(self, blocks: Blocks, encoded: Mask) -> Scores:  # noqa: ARG002
        """Return the old scores."""
        return blocks[Channel.OLD]


@dataclass(frozen=True, slots=True)
class Single:
    """One space: the new query meets true new vectors and projected old ones (FCT, FastFill).

    Attributes:
        name: Name in tables.
    """

    name: str = "single"

    @property
    def channels(self) -> frozenset[Channel]:
        """The scores it needs."""
        return frozenset({Channel.FORWARD, Channel.NEW})

    def score(self, blocks: Blocks, encoded: Mask) -> Scores:
        """Take the new score of re-encoded rows and the forward score of the rest."""
        return np.where(encoded, blocks[Channel.NEW], blocks[Channel.FORWARD])


class Merge:
    """Two spaces, raw scores: the old query on the rest, the new one on re-encoded rows (Seo)."""

    name = "merge"
    channels = frozenset({Channel.OLD, Channel.NEW})

    def score(self, blocks: Blocks, encoded: Mask) -> Scores:
        """Take the new score of re-encoded rows and the old score of the rest."""
        # Scores of two spaces on one list: where one space scores higher on average, its points
        # crowd the other's out.
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


def put_spent_first(order: Rows, spent: Rows) -> Rows:
    """Put rows that were re-encoded for training pairs in front: they count as work done.

    Args:
        order: Every gallery row once, shape (n,).
        spent: Rows that already hold true new vectors.
    """
    return np.concatenate([spent, order[~np.isin(order, spent)]])
