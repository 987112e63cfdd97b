"""Fit how far queries are centred, by retrieval in mixed galleries whose answers are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from xbtmigrate.evaluation.mixed_gallery import mark_encoded
from xbtmigrate.evaluation.retrieval import Relevance, Rows, SearchSpace, chunk_queries
from xbtmigrate.scoring.centring import DISTANCES, FOLDS, SHARES, Centring, folds_of
from xbtmigrate.types import Distance, Scores, Vectors, normalized

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Strengths that are tried; quality is flat around the best of them."""
MIN_QUERIES = 40
MIN_SURPLUS = 1.0
"""Least gain over raw queries, in standard errors of its mean, to use centring."""
# Neighbouring shares differ in a tenth of the points; averaging them reduces noise.
_APART = np.abs(np.subtract.outer(np.arange(len(SHARES)), np.arange(len(SHARES))))
_SMOOTHING = np.maximum(0, 2 - _APART) / np.maximum(0, 2 - _APART).sum(axis=1, keepdims=True)

Gains: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CentringTask:
    """Queries with known answers over points in both states.

    Attributes:
        texts: The m queries.
        queries: Their vectors by the new model, (m, d).
        relevance: The points that answer them.
        projected: The points' projections, by maps that had not seen them, (n, d).
        new: Their true new vectors, (n, d).
        order: All n points, those that a backfill re-encodes first in front.
        distance: How queries and points are compared.
    """

    texts: Sequence[str]
    queries: Vectors
    relevance: Relevance
    projected: Vectors
    new: Vectors
    order: Rows
    distance: Distance


def fit_centring(task: CentringTask, *, forward: str, basis: str) -> Centring | None:
    """Choose a strength for each share of points re-encoded.

    Args:
        task: Queries with known answers.
        forward: Digest of the forward projector.
        basis: What served as queries, in words.

    Returns:
        The strengths; None where the distance does not allow centring, or queries are too few.
    """
    fold = folds_of(task.texts)
    if not _is_possible(fold, task.distance):
        return None
    mean = _mean(_unit(task.new, task.distance))
    found = _reciprocal_ranks(task, mean)
    return Centring(
        mean.tolist(),
        _choose(found),
        [_choose(found[fold != each]) for each in range(FOLDS)],
        forward,
        len(task.texts),
        basis,
    )


def centre_in_place(
    space: SearchSpace, texts: Sequence[str], relevance: Relevance
) -> SearchSpace | None:
    """Centre the queries of one space, each with a strength chosen without its fold.

    Args:
        space: Queries and gallery of one model, such as those that are searched today.
        texts: The queries.
        relevance: Their answers.

    Returns:
        The space with centred queries; None where centring is not possible.
    """
    fold = folds_of(texts)
    if not _is_possible(fold, space.distance):
        return None
    queries, gallery = (_unit(each, space.distance) for each in (space.query, space.gallery))
    mean = _mean(gallery)
    component, extent = queries @ mean, gallery @ mean
    found = np.concatenate(
        [
            _try_strengths(
                queries[chunk] @ gallery.T, component[chunk], extent, relevance.part(chunk)
            )
            for chunk in chunk_queries(len(queries), len(gallery))
        ]
    )[:, None]
    chosen = np.array([_choose(found[fold != each])[0] for each in range(FOLDS)], np.float32)
    return replace(space, query=queries - np.outer(chosen[fold] * component, mean))


def _reciprocal_ranks(task: CentringTask, mean: Vectors) -> Gains:
    """Search at each share with each strength; (queries, shares, strengths), 1 / rank."""
    queries, projected, new = (
        _unit(each, task.distance) for each in (task.queries, task.projected, task.new)
    )
    masks = [mark_encoded(task.order, share) for share in SHARES]
    along = [np.where(mask, new @ mean, projected @ mean) for mask in masks]
    found = np.empty((len(queries), len(SHARES), len(STRENGTHS)))
    for chunk in chunk_queries(len(queries), len(new)):
        waiting, encoded = queries[chunk] @ projected.T, queries[chunk] @ new.T
        component, answers = queries[chunk] @ mean, task.relevance.part(chunk)
        for step, (mask, extent) in enumerate(zip(masks, along, strict=True)):
            raw = np.where(mask, encoded, waiting)
            found[chunk, step] = _try_strengths(raw, component, extent, answers)
    return found


def _try_strengths(raw: Scores, component: Vectors, extent: Vectors, answers: Relevance) -> Gains:
    """Rank with each strength: 1 / rank of the first answer, (queries, strengths)."""
    # (q - s (q.m) m) . g = q.g - s (q.m)(g.m)
    ranks = [
        _first_rank(raw - np.outer(strength * component, extent), answers) for strength in STRENGTHS
    ]
    return 1 / np.stack(ranks, axis=1)


def _is_possible(fold: Rows, distance: Distance) -> bool:
    return distance in DISTANCES and np.bincount(fold, minlength=FOLDS).min() >= MIN_QUERIES / 2


def _mean(vectors: Vectors) -> Vectors:
    unit: Vectors = normalized(vectors.mean(axis=0, keepdims=True))[0]
    return unit


def _unit(vectors: Vectors, distance: Distance) -> Vectors:
    return normalized(vectors) if distance is Distance.COSINE else vectors


def _first_rank(scores: Scores, answers: Relevance) -> npt.NDArray[np.intp]:
    """Return the rank of each query's first answer, from 1."""
    starts = np.searchsorted(answers.query, np.arange(answers.query_count))
    best = np.maximum.reduceat(scores[answers.query, answers.row], starts)
    return np.asarray(1 + (scores > best[:, None]).sum(axis=1), np.intp)


def _choose(reciprocal: Gains) -> list[float]:
    """Choose the strength of each share; 0 if no gain is significant."""
    gains = reciprocal - reciprocal[:, :, :1]
    if gains.shape[1] == len(SHARES):
        gains = np.einsum("st,qtp->qsp", _SMOOTHING, gains)
    mean, error = gains.mean(axis=0), gains.std(axis=0) / np.sqrt(len(gains))
    best = mean.argmax(axis=1)
    steps = np.arange(len(best))
    beyond = mean[steps, best] > MIN_SURPLUS * error[steps, best]
    return [float(each) for each in np.where(beyond, np.array(STRENGTHS)[best], 0.0)]
