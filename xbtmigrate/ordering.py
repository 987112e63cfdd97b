"""Domain: which point is re-encoded next."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from xbtmigrate.errors import PluginError
from xbtmigrate.protocols import Projector
from xbtmigrate.types import Direction, PointId, Vectors

PriorityScores = npt.NDArray[np.float32]


class RandomOrdering:
    """No preference: a stable hash of seed and id, so batches and restarts change nothing.

    Args:
        seed: Chooses the order.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self._key = str(seed).encode()

    def score(self, ids: Sequence[PointId], old: Vectors) -> PriorityScores:  # noqa: ARG002
        """Draw one score in [0, 1) for each id. Shape (n,)."""
        hashes = b"".join(
            hashlib.blake2b(point.encode(), key=self._key, digest_size=8).digest() for point in ids
        )
        return (np.frombuffer(hashes, "<u8") / 2**64).astype(np.float32)


class UncertaintyOrdering:
    """Points whose projection is expected to be the worst come first (FastFill, section 3.2).

    Args:
        projector: A forward projector that estimates its own error.

    Raises:
        PluginError: The projector maps queries, not stored vectors.
    """

    def __init__(self, *, projector: Projector) -> None:
        if projector.direction is not Direction.FORWARD:
            raise PluginError(
                f"the uncertainty order needs a forward projector, not a {projector.direction}",
                "train a forward projector, or choose another order",
            )
        self._projector = projector

    def score(self, ids: Sequence[PointId], old: Vectors) -> PriorityScores:  # noqa: ARG002
        """Return the predicted log-variance of each projection. Shape (n,)."""
        return self._projector.uncertainty(old)


class CentroidOrdering:
    """Points far from every cluster of the old space come first.

    Distance to the class mean is the order of lambda-orthogonality (Ricci et al. 2025, section
    4.3); clusters stand in for classes. They are found in the first batch that is scored, which
    therefore has to be a fair sample of the collection, or all of it.

    Args:
        seed: Seed of the clustering.
        clusters: Number of clusters; cut to the size of the first batch.
    """

    def __init__(self, *, seed: int = 0, clusters: int = 128) -> None:
        self._seed = seed
        self._clusters = clusters
        self._centroids: Vectors | None = None

    def score(self, ids: Sequence[PointId], old: Vectors) -> PriorityScores:  # noqa: ARG002
        """Return the Euclidean distance to the nearest centroid. Shape (n,)."""
        if self._centroids is None:
            known = old[np.isfinite(old).all(axis=1)]
            self._centroids = _mini_batch_kmeans(known, self._clusters, self._seed)
        nearest = _squared_distances(old, self._centroids).min(axis=1)
        return cast("PriorityScores", np.sqrt(np.maximum(nearest, 0)))


def rank(ids: Sequence[PointId], scores: PriorityScores) -> npt.NDArray[np.intp]:
    """Sort points by descending score, equal ones by id, whatever order they came in.

    Args:
        ids: Point ids, n of them.
        scores: Shape (n,). NaN (no old vector, so nothing to project) ranks before every number.

    Returns:
        Positions in `ids`, the first to be re-encoded first, shape (n,).
    """
    priority = np.where(np.isnan(scores), np.inf, scores)
    return np.lexsort((np.asarray(ids, dtype=np.str_), -priority))


def _mini_batch_kmeans(vectors: Vectors, clusters: int, seed: int, steps: int = 100) -> Vectors:
    """Find centroids with per-centre learning rates (Sculley, WWW 2010)."""
    rng = np.random.default_rng(seed)
    clusters = min(clusters, len(vectors))
    centroids = vectors[rng.choice(len(vectors), clusters, replace=False)].copy()
    counts = np.ones(clusters, dtype=np.float32)
    for _ in range(steps):
        batch = vectors[rng.integers(0, len(vectors), min(1024, len(vectors)))]
        nearest = _squared_distances(batch, centroids).argmin(axis=1)
        added = np.bincount(nearest, minlength=clusters).astype(np.float32)
        sums = np.zeros_like(centroids)
        np.add.at(sums, nearest, batch)
        counts += added
        centroids += (sums - added[:, None] * centroids) / counts[:, None]
    return centroids


def _squared_distances(vectors: Vectors, centroids: Vectors) -> npt.NDArray[np.float32]:
    squares = (vectors**2).sum(axis=1)[:, None] + (centroids**2).sum(axis=1)
    return cast("npt.NDArray[np.float32]", squares - 2 * vectors @ centroids.T)
