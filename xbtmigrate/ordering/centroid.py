"""Re-encode points far from the centroids of the old space first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from xbtmigrate.ordering.simple import PriorityScores
from xbtmigrate.types import PointId, Vectors


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
        # Later batches use the same centroids, so that scores are comparable.
        if self._centroids is None:
            known = old[np.isfinite(old).all(axis=1)]
            self._centroids = _mini_batch_kmeans(known, self._clusters, self._seed)
        nearest = _squared_distances(old, self._centroids).min(axis=1)
        # Rounding can leave the square of a distance near zero below it.
        return cast("PriorityScores", np.sqrt(np.maximum(nearest, 0)))


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
        # `sums[nearest] += batch` would add only one of the rows that share a centroid.
        np.add.at(sums, nearest, batch)
        # Sculley's c += (x - c) / count, for all rows of a batch that share a centroid at once.
        counts += added
        centroids += (sums - added[:, None] * centroids) / counts[:, None]
    return centroids


def _squared_distances(vectors: Vectors, centroids: Vectors) -> npt.NDArray[np.float32]:
    # |v - c|^2 = |v|^2 + |c|^2 - 2 v.c needs no array of shape (n, clusters, d).
    squares = (vectors**2).sum(axis=1)[:, None] + (centroids**2).sum(axis=1)
    return cast("npt.NDArray[np.float32]", squares - 2 * vectors @ centroids.T)
