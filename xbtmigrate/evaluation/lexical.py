"""Search by words, alone and beside vectors: what a sparse vector would bring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from scipy import sparse

from xbtmigrate.evaluation.answer_ranks import judge_ranks, rank_answers
from xbtmigrate.evaluation.retrieval import (
    DEPTH,
    QueryScores,
    Relevance,
    Rows,
    SearchSpace,
    chunk_queries,
    judge_hits,
    mark_right_places,
    rank_top_k,
)
from xbtmigrate.side_information import split_words
from xbtmigrate.types import Scores

K1, B = 1.2, 0.75
"""Usual constants of BM25, those of Qdrant's own sparse model among them."""
RANK_CONSTANT = 2
"""Added to ranks from 0 in reciprocal rank fusion, as Qdrant does."""


@dataclass(frozen=True, eq=False)
class LexicalIndex:
    """The words of n texts, v in all, weighted by BM25 (Robertson & Zaragoza 2009).

    Attributes:
        places: Word -> column.
        weights: Float32 (n, v).
    """

    places: dict[str, int]
    weights: sparse.csr_array

    @classmethod
    def build(cls, texts: Sequence[str | None]) -> LexicalIndex:
        """Index texts; None for a missing one."""
        places: dict[str, int] = {}
        columns: list[int] = []
        counts: list[int] = []
        ends, lengths = [0], []
        for text in texts:
            words = Counter(split_words(text or ""))
            columns += (places.setdefault(word, len(places)) for word in words)
            counts += words.values()
            ends.append(len(columns))
            lengths.append(words.total())
        held = np.bincount(columns, minlength=len(places))
        rarity = np.log1p((len(texts) - held + 0.5) / (held + 0.5))
        rows = np.repeat(np.arange(len(texts)), np.diff(ends))
        relative = np.array(lengths) / max(1.0, float(np.mean(lengths)))
        often = np.array(counts, np.float64)
        # BM25: idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / mean length)).
        values = often * (K1 + 1) / (often + K1 * (1 - B + B * relative[rows]))
        values = (values * rarity[columns]).astype(np.float32)
        shape = len(texts), len(places)
        return cls(places, sparse.csr_array((values, np.array(columns), ends), shape=shape))

    def score(self, queries: Sequence[str]) -> Scores:
        """Score m queries against all texts, (m, n); 0 where no word is shared."""
        found = [
            [self.places[word] for word in set(split_words(query)) if word in self.places]
            for query in queries
        ]
        ends = np.cumsum([0, *map(len, found)])
        columns = np.array([column for each in found for column in each], np.int64)
        shape = len(queries), len(self.places)
        asked = sparse.csr_array((np.ones(len(columns), np.float32), columns, ends), shape=shape)
        return cast("Scores", (asked @ self.weights.T).toarray())


def measure_lexical(
    index: LexicalIndex, queries: Sequence[str], space: SearchSpace, relevance: Relevance
) -> tuple[QueryScores, QueryScores]:
    """Measure a search by words, and its fusion with a search by vectors.

    Args:
        index: Texts of the gallery.
        queries: Texts of the queries.
        space: The same queries and gallery as vectors.
        relevance: The right answers.

    Returns:
        Figures by words alone; and of both lists of 100, joined by reciprocal rank fusion
        (Cormack, Clarke & Büttcher 2009) as in a hybrid query of Qdrant.
    """
    alone, fused = [], []
    for chunk in chunk_queries(len(queries), len(space.gallery)):
        part = relevance.part(chunk)
        words = index.score(queries[chunk])
        by_words, by_vectors = rank_top_k(words, DEPTH), rank_top_k(space.score(chunk), DEPTH)
        shares_word = np.take_along_axis(words, by_words, axis=1) > 0
        alone.append(judge_hits(mark_right_places(by_words, part) & shares_word, part.counts))
        joined = np.zeros_like(words)
        _add_ranks(joined, by_words, shares_word)
        _add_ranks(joined, by_vectors, np.ones_like(by_vectors, np.bool_))
        fused.append(judge_ranks(rank_answers(joined, part), part))
    return QueryScores.join(alone), QueryScores.join(fused)


def _add_ranks(scores: Scores, ranked: Rows, counts: np.ndarray) -> None:
    """Add 1 / (rank + constant) to the scores of the ranked columns that count."""
    shares = counts / (np.arange(ranked.shape[1]) + RANK_CONSTANT)
    rows = np.arange(len(scores))[:, None]
    # A column occurs once in a ranked list, so nothing is added twice.
    scores[rows, ranked] += shares.astype(scores.dtype)
