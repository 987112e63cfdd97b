"""mini-vec2vec: align two spaces without a single pair.

Dar, "mini-vec2vec: Scaling Universal Geometry Alignment with Linear Transformations", 2025, arXiv
2510.02348, after vec2vec (Jha et al. 2025, arXiv 2505.12540). Both spaces are centred and
normalised. (1) k-means in both; the centroids are matched by a quadratic assignment of their
cosines within each space. A vector's cosines to the matched centroids of several runs are
coordinates that both spaces share, and the mean of its nearest vectors by these is its pseudo-pair.
(2) A rotation by Procrustes. (3) Refinement: map, take the mean of the nearest vectors as new
pseudo-pairs, fit, and go a part of the way.

Changed: the map goes from new queries to stored vectors; where lengths differ the rotation has
orthonormal rows or columns. The second refinement, by clusters, is left out. The new vectors are
those of the pairs, and the stored ones those of other points, so that there is no pair among them.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import quadratic_assignment
from sklearn.cluster import KMeans

from xbtmigrate.types import Vectors, normalized
from xbtmigrate_research.method import Method, Needs, Outcome, answer_in_old
from xbtmigrate_research.trial import Trial

CLUSTERS = 20
RUNS = 15
STARTS = 30
NEIGHBOURS = 50
STEPS = 50
SAMPLE = 2000
SMOOTHING = 0.5


def centred(vectors: Vectors, mean: Vectors) -> Vectors:
    """Take the mean away and bring to unit length."""
    return normalized(vectors - mean)


def centroids_of(vectors: Vectors, clusters: int, seed: int) -> Vectors:
    """Cluster by k-means and return the directions of the centres, (clusters, d)."""
    fitted = KMeans(clusters, n_init=1, random_state=seed).fit(vectors)
    return normalized(np.asarray(fitted.cluster_centers_, np.float32))


def matched_centroids(
    new: Vectors, old: Vectors, clusters: int, seed: int
) -> tuple[Vectors, Vectors]:
    """Cluster both spaces and match the centroids by their cosines within each."""
    first, second = (centroids_of(each, clusters, seed) for each in (new, old))
    rng = np.random.default_rng(seed)
    # The best of several starts: the assignment is a search that may end in a local optimum.
    tried = [
        quadratic_assignment(
            first @ first.T,
            second @ second.T,
            method="2opt",
            options={"maximize": True, "rng": rng},
        )
        for _ in range(STARTS)
    ]
    best = max(tried, key=lambda each: float(each.fun))
    return first, second[best.col_ind]


def shared_coordinates(
    new: Vectors, old: Vectors, clusters: int, seed: int
) -> tuple[Vectors, Vectors]:
    """Describe both spaces by cosines to matched centroids, (n, RUNS * clusters) each."""
    runs = [matched_centroids(new, old, clusters, seed * RUNS + number) for number in range(RUNS)]
    both = (
        np.concatenate([each @ centroids[side].T for centroids in runs], axis=1)
        for side, each in enumerate((new, old))
    )
    first, second = (normalized(each - each.mean(axis=0)) for each in both)
    return first, second


def nearest_mean(queries: Vectors, keys: Vectors, values: Vectors, count: int) -> Vectors:
    """Return the mean of the values of the `count` keys that are nearest to each query."""
    nearest = np.argpartition(-(queries @ keys.T), count - 1, axis=1)[:, :count]
    return normalized(values[nearest].mean(axis=1))


def rotation(x: Vectors, y: Vectors) -> Vectors:
    """Fit the rotation of Procrustes, (d_x, d_y)."""
    left, _, right = np.linalg.svd(x.T.astype(np.float64) @ y, full_matrices=False)
    return np.asarray(left @ right, np.float32)


def align(
    new: Vectors, old: Vectors, seed: int, *, clusters: int = CLUSTERS, neighbours: int = NEIGHBOURS
) -> Vectors:
    """Find the map from centred new to centred old vectors, (d_new, d_old)."""
    rng = np.random.default_rng(seed)
    keys_new, keys_old = shared_coordinates(new, old, clusters, seed)
    weight = rotation(new, nearest_mean(keys_new, keys_old, old, neighbours))
    for _ in range(STEPS):
        rows = rng.permutation(len(new))[:SAMPLE]
        mapped = normalized(new[rows] @ weight)
        fitted = rotation(new[rows], nearest_mean(mapped, old, old, neighbours))
        weight = (1 - SMOOTHING) * weight + SMOOTHING * fitted
    return np.asarray(weight, np.float32)


def run(trial: Trial, clusters: int = CLUSTERS, neighbours: int = NEIGHBOURS) -> Outcome:
    """Align, and map the queries."""
    corpus = trial.corpus
    others = np.setdiff1d(np.arange(len(corpus.old)), trial.rows)
    chosen = np.random.default_rng(trial.seed).permutation(others)[: len(trial.rows)]
    new, old = corpus.new[trial.rows], corpus.old[chosen]
    mean_new, mean_old = new.mean(axis=0), old.mean(axis=0)
    weight = align(
        centred(new, mean_new), centred(old, mean_old), trial.seed,
        clusters=clusters, neighbours=neighbours,
    )  # fmt: skip
    return answer_in_old(trial, centred(corpus.asked_new, mean_new) @ weight + mean_old)


METHODS = (
    Method(
        "mini_vec2vec", "Dar 2025, 2510.02348", run, Needs(pairs=False), "no",
        beside="procrustes", remark="It found no alignment of these models.",
    ),
)  # fmt: skip
