"""Remove from a query a share of its component along the mean of the new space.

The mean m adds (q.m)(g.m) to every score of a point g. In a space whose vectors lie around a common
direction, this term says little about relevance, but much about whether g is projected, because
regression shrinks towards the mean. The best share depends on how much of the gallery is
re-encoded; it is one number at query time, and can change at no cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import numpy.typing as npt

from xbtmigrate.errors import ArtefactError
from xbtmigrate.files import read_json, write_json
from xbtmigrate.types import Distance, Vectors

SHARES = tuple(step / 10 for step in range(11))
"""Shares of re-encoded points for which a strength is fitted."""
FOLDS = 2
DISTANCES = (Distance.COSINE, Distance.DOT)
"""Distances whose scores contain (q.m)(g.m). Euclidean ones do not depend on the origin."""

FILE = "centring.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class _CentringFormat:
    format: int


@dataclass(frozen=True, slots=True)
class Centring:
    """How far queries of the new space are centred, by the share of points re-encoded.

    Attributes:
        mean: Unit mean of true new vectors, d numbers.
        strengths: Part of the component along the mean that is taken away, at each of `SHARES`.
        held_out: The same fitted without the queries of each fold, to measure on these.
        forward: Digest of the forward projector that it was fitted with.
        queries: Number of queries with known answers behind it.
        basis: What served as queries, in words.
    """

    mean: Sequence[float]
    strengths: Sequence[float]
    held_out: Sequence[Sequence[float]]
    forward: str
    queries: int
    basis: str

    def away(self, share: float) -> Vectors | None:
        """Return the vector a that centres a query q as q - (q.a) a; None for no centring.

        Args:
            share: Share of the points that are re-encoded.
        """
        strength = float(np.interp(share, SHARES, self.strengths))
        # q - s (q.m) m, with a = sqrt(s) m, so that a query takes one product.
        return np.asarray(self.mean, np.float32) * np.float32(strength**0.5) if strength else None

    def strengths_for(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return strengths for queries that may be in the training set, (n, len(SHARES))."""
        return np.asarray(self.held_out, np.float32)[folds_of(texts)]

    def save(self, folder: Path) -> None:
        """Write centring.json into a folder, atomically."""
        write_json(folder / FILE, {"format": _FORMAT, **asdict(self)})

    @classmethod
    def load(cls, folder: Path) -> Centring | None:
        """Read centring.json from a folder; None if nothing was fitted.

        Raises:
            ArtefactError: The file is damaged or of another version.
        """
        path, hint = folder / FILE, "fit it again with train-projector"
        try:
            version = read_json(path, _CentringFormat, hint)
            if version.format != _FORMAT:
                raise ArtefactError(
                    f"{path} was written by another version (format {version.format})", hint
                )
            return read_json(path, cls, hint)
        except FileNotFoundError:
            return None


def folds_of(texts: Sequence[str]) -> npt.NDArray[np.intp]:
    """Assign each query to a fold by its text, the same in every process; shape (n,)."""
    return np.array([crc32(text.encode("utf-8", "replace")) % FOLDS for text in texts], np.intp)
