"""Score points in two states on one scale, from the channels that each offers.

A point not yet re-encoded is scored by the old query on its old vector and by the new query on its
projected vector; a re-encoded one by the new query on its new vector and, as long as the old one
is kept, by the old query too. Every channel can be corrected for hubness: some points are near to
all queries, which says nothing about this query (CSLS, Conneau et al. 2018; QB-Norm, Bogolin et al.
2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from xbtmigrate.errors import ArtefactError
from xbtmigrate.files import read_json, write_json
from xbtmigrate.types import Channel, Scores

PerPoint: TypeAlias = npt.NDArray[np.float32]
Mask: TypeAlias = npt.NDArray[np.bool_]

NEIGHBOURS = 10
"""Number of bank queries over which a point's hubness is averaged."""

FILE = "fusion.json"
BRIDGED_FILE = "fusion-bridged.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class _FusionFormat:
    """The parts of a file that decide whether this version can read it."""

    format: int
    neighbours: int


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of one channel: it adds score * channel + hubness * hubness of the point."""

    score: float
    hubness: float = 0.0


@dataclass(frozen=True, slots=True)
class Fusion:
    """Calibrated scores of a mixed gallery; all are log-odds up to one constant per query.

    Attributes:
        waiting: Channels of a point that is not yet re-encoded.
        encoded: Channels of a re-encoded point.
        offset: Added to re-encoded points.
        queries: Number of calibration queries behind the weights.
        loss: Mean negative log-likelihood of the right answer on them, in nats.
    """

    waiting: Mapping[Channel, Weights]
    encoded: Mapping[Channel, Weights]
    offset: float
    queries: int
    loss: float

    @property
    def channels(self) -> frozenset[Channel]:
        """The channels whose scores it needs."""
        return frozenset(self.waiting) | frozenset(self.encoded)

    def score(
        self, blocks: Mapping[Channel, Scores], hubness: Mapping[Channel, PerPoint], encoded: Mask
    ) -> Scores:
        """Score a chunk of queries against points in both states.

        Args:
            blocks: Scores of each channel, shape (m, n); those of `Channel.NEW` need to be finite
                for points that are not re-encoded, and are not used there.
            hubness: Hubness of the points in each channel, shape (n,); an absent channel is 0.
            encoded: Which points are re-encoded, shape (n,).

        Returns:
            Comparable scores, shape (m, n), higher is better.
        """
        none = Weights(0.0)
        bias = np.where(encoded, np.float32(self.offset), np.float32(0))
        total: Scores | None = None
        # Sorted, because float sums depend on the order, and that of a set differs between runs.
        for channel in sorted(self.channels):
            wait, done = self.waiting.get(channel, none), self.encoded.get(channel, none)
            factor = np.where(encoded, done.score, wait.score).astype(np.float32)
            if channel in hubness:
                # Hubness depends on the point alone: added once for all queries, below.
                weight = np.where(encoded, done.hubness, wait.hubness).astype(np.float32)
                bias = bias + weight * hubness[channel]
            part = blocks[channel] * factor
            total = part if total is None else np.add(total, part, out=total)
        return bias[None, :] if total is None else np.add(total, bias, out=total)

    def save(self, folder: Path, name: str = FILE) -> None:
        """Write a file into a folder, atomically."""
        content: dict[str, object] = {
            "format": _FORMAT,
            "waiting": _weights_out(self.waiting),
            "encoded": _weights_out(self.encoded),
            "offset": self.offset,
            "neighbours": NEIGHBOURS,
            "queries": self.queries,
            "loss": self.loss,
        }
        write_json(folder / name, content)

    @classmethod
    def load(cls, folder: Path, name: str = FILE) -> Fusion:
        """Read a file from a folder.

        Raises:
            ArtefactError: The file is missing, damaged or of another version.
        """
        path, hint = folder / name, "calibrate again with train-projector"
        try:
            version = read_json(path, _FusionFormat, hint)
            # The weights fit a hubness over this many neighbours and no other number.
            if version != _FusionFormat(_FORMAT, NEIGHBOURS):
                raise ArtefactError(
                    f"{path} was written by another version (format {version.format})", hint
                )
            return read_json(path, cls, hint)
        except FileNotFoundError as error:
            raise ArtefactError(f"{path} cannot be read: {error.strerror}", hint) from error


@dataclass(frozen=True, slots=True)
class CalibratedServing:
    """A fusion over points of known hubness, as a serving of the evaluation.

    Attributes:
        fusion: The calibrated weights.
        hubness: Hubness of every point in each channel, shape (n,).
        name: Name in tables.
        by_state: A point's score depends on no other point.
    """

    fusion: Fusion
    hubness: Mapping[Channel, PerPoint]
    name: str = "calibrated"
    by_state: bool = True

    @property
    def channels(self) -> frozenset[Channel]:
        """The scores it needs."""
        return self.fusion.channels

    def score(self, blocks: Mapping[Channel, Scores], encoded: Mask) -> Scores:
        """Fuse the channels; see `Fusion.score`."""
        return self.fusion.score(blocks, self.hubness, encoded)


def hubness(scores: Scores, own: Mask | None = None) -> PerPoint:
    """Compute the mean score of each point with the bank queries nearest to it.

    Args:
        scores: Points against a bank of queries, shape (n, m), m > 1.
        own: Pairs where the point answers the query, shape (n, m): left out, since an answer is
            near to its query for a reason.

    Returns:
        Shape (n,).
    """
    if own is not None:
        scores = np.where(own, -np.inf, scores)
    # At most m - 1, so that the -inf of the query that a point answers is not in the mean.
    k = min(NEIGHBOURS, scores.shape[1] - 1)
    nearest: PerPoint = np.partition(scores, -k, axis=1)[:, -k:].mean(axis=1)
    return nearest


def _weights_out(weights: Mapping[Channel, Weights]) -> dict[str, dict[str, float]]:
    return {c.value: {"score": w.score, "hubness": w.hubness} for c, w in weights.items()}
