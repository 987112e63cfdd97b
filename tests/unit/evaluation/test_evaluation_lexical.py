"""Search by words, checked by hand and against the fusion of qdrant-client."""

from __future__ import annotations

import math

import numpy as np
import pytest
from qdrant_client import models
from qdrant_client.hybrid.fusion import reciprocal_rank_fusion

from xbtmigrate.evaluation.answer_ranks import evaluate
from xbtmigrate.evaluation.lexical import LexicalIndex, measure_lexical
from xbtmigrate.evaluation.retrieval import Relevance, SearchSpace, rank_top_k

TEXTS = ["red fox in the snow", "a red red bird", None, "the sea", "fox"]


def test_scores_are_those_of_bm25():
    scores = LexicalIndex.build(TEXTS).score(["red", "Fox fox", "unknown"])
    # Words of one letter are none: lengths 5, 3, 0, 2 and 1, on average 2.2.
    rarity = math.log1p((5 - 2 + 0.5) / (2 + 0.5))

    def expected(often: int, length: int) -> float:
        return rarity * often * 2.2 / (often + 1.2 * (0.25 + 0.75 * length / 2.2))

    np.testing.assert_allclose(scores[0], [expected(1, 5), expected(2, 3), 0, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(scores[1], [expected(1, 5), 0, 0, 0, expected(1, 1)], rtol=1e-5)
    assert not scores[2].any()


def test_a_text_without_a_shared_word_is_not_found():
    index = LexicalIndex.build(TEXTS)
    space = SearchSpace(np.eye(2, 3, dtype=np.float32), np.eye(5, 3, dtype=np.float32) + 0.1)
    alone, _ = measure_lexical(index, ["unknown", "sea"], space, Relevance.from_rows([[0], [3]]))
    assert alone.values["recall@10"].tolist() == [0, 1]
    assert alone.values["mrr@10"].tolist() == [0, 1]


@pytest.mark.parametrize("texts", [[None, None], ["", "..."]])
def test_texts_without_words_find_nothing(texts):
    index = LexicalIndex.build(texts)
    space = SearchSpace(np.eye(1, 2, dtype=np.float32), np.eye(2, dtype=np.float32))
    alone, fused = measure_lexical(index, ["fox"], space, Relevance.from_rows([[0]]))
    assert alone.means["recall@10"] == 0
    assert fused.means == evaluate(space, Relevance.from_rows([[0]])).means


def test_lists_are_joined_as_qdrant_does():
    rng = np.random.default_rng(0)
    words = [f"word{number}" for number in range(40)]
    texts = [" ".join(rng.choice(words, 6)) for _ in range(300)]
    queries = [" ".join(rng.choice(words, 3)) for _ in range(20)]
    space = SearchSpace(*(rng.normal(size=(n, 8)).astype(np.float32) for n in (20, 300)))
    relevance = Relevance.from_rows(rng.integers(0, 300, (20, 5)).tolist())
    index = LexicalIndex.build(texts)
    _, fused = measure_lexical(index, queries, space, relevance)
    scores = index.score(queries)
    lists = [rank_top_k(scores, 100), rank_top_k(space.score(), 100)]
    for query in range(20):
        found = [
            [
                models.ScoredPoint(id=int(row), version=0, score=1.0)
                for row in each[query]
                if which or scores[query, row] > 0
            ]
            for which, each in enumerate(lists)
        ]
        first = {point.id for point in reciprocal_rank_fusion(found, limit=10)}
        right = set(relevance.row[relevance.query == query].tolist())
        share = len(first & right) / len(right)
        assert fused.values["recall@10"][query] == pytest.approx(share)
