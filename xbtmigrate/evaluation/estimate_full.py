"""Estimate what a fully re-encoded gallery would reach, before it exists.

The rank of an answer is the number of points nearer to the query. Among the re-encoded points these
are counted; among the others their number is drawn, several times (multiple imputation,
Rubin 1987), from what a fair sample of them shows (beta-binomial). The prior is nearly
log-uniform: for most queries next to nothing is nearer than the answer. A sample of a thousand
tells recall@10 of some ten thousands to about 0.02; figures of the very first place come out
too high until a good part is encoded.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xbtmigrate.evaluation.retrieval import (
    DEPTH,
    QueryScores,
    Relevance,
    SearchSpace,
    chunk_queries,
    judge_hits,
)

DRAWS = 16
# Beta(0.05, 0.5) before anything is seen: most of its mass lies near zero.
PRIOR = 0.05

Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]


def impute_full(
    space: SearchSpace,
    relevance: Relevance,
    *,
    encoded: Mask,
    sample: Mask,
    points: int,
    seed: int,
) -> QueryScores:
    """Estimate the metrics of new queries over a gallery that holds true new vectors only.

    Args:
        space: New queries and the k true new vectors that are known.
        relevance: The right rows among these k.
        encoded: Rows that are re-encoded points of the gallery, (k,); all of those.
        sample: Rows that are a fair sample of the gallery's other points, (k,).
        points: Number of points of the gallery.
        seed: Seed of the draws.

    Returns:
        Metrics per query, the mean over the draws; exact once every point is re-encoded.
    """
    rng = np.random.default_rng(seed)
    parts = []
    for chunk in chunk_queries(relevance.query_count, len(space.gallery)):
        asked = relevance.part(chunk)
        scores = space.score(chunk)[asked.query]
        ahead = scores > scores[np.arange(len(scores)), asked.row][:, None]
        # The answer does not compete with itself: leave it out of the sample and of the rest.
        own = sample[asked.row]
        unseen = points - int(encoded.sum()) - ~encoded[asked.row]
        before = ahead[:, encoded].sum(axis=1)
        seen = ahead[:, sample].sum(axis=1)
        sampled = int(sample.sum()) - own
        parts.append(_judged(asked, rng, before=before, seen=seen, sampled=sampled, unseen=unseen))
    return QueryScores.join(parts)


def _judged(
    asked: Relevance,
    rng: np.random.Generator,
    *,
    before: Integers,
    seen: Integers,
    sampled: Integers,
    unseen: Integers,
) -> QueryScores:
    """Draw the ranks of the answers, judge each draw, and return the mean over the draws."""
    drawn = []
    for _ in range(DRAWS):
        # Posterior share of unseen points before the answer, then how many of them that makes.
        share = rng.beta(seen + PRIOR, sampled - seen + 0.5)
        rank = before + rng.binomial(np.maximum(unseen, 0), share)
        hits = np.zeros((asked.query_count, DEPTH), np.bool_)
        # An answer beyond the list counts for no metric.
        listed = rank < DEPTH
        hits[asked.query[listed], rank[listed]] = True
        drawn.append(judge_hits(hits, asked.counts).values)
    return QueryScores({name: np.mean([one[name] for one in drawn], axis=0) for name in drawn[0]})
