"""The metrics agree with ir-measures (trec_eval), the search with brute force."""

import ir_measures
import numpy as np
import pytest
from ir_measures import AP, RR, R, nDCG

from xbtmigrate.errors import EvaluationError
from xbtmigrate.evaluation import retrieval
from xbtmigrate.evaluation.answer_ranks import evaluate
from xbtmigrate.evaluation.retrieval import METRICS, Relevance, SearchSpace, judge, rank_top_k
from xbtmigrate.types import Distance

TRUSTED = {
    "recall@1": R @ 1,
    "recall@5": R @ 5,
    "recall@10": R @ 10,
    "mrr@10": RR @ 10,
    "ndcg@10": nDCG @ 10,
    "map@100": AP @ 100,
}


def random_run(seed, queries=40, rows=300):
    rng = np.random.default_rng(seed)
    scores = np.stack([rng.permutation(rows) for _ in range(queries)]).astype(np.float32)
    relevant = [rng.choice(rows, size=rng.integers(1, 25), replace=False) for _ in range(queries)]
    return scores, relevant


@pytest.mark.parametrize("seed", range(5))
def test_metrics_agree_with_a_trusted_library_query_by_query(seed):
    scores, relevant = random_run(seed)
    ours = judge(rank_top_k(scores, 100), Relevance.from_rows(relevant)).values
    qrels = [
        ir_measures.Qrel(str(q), str(row), 1) for q, rows in enumerate(relevant) for row in rows
    ]
    run = [
        ir_measures.ScoredDoc(str(q), str(row), float(score))
        for q, line in enumerate(scores)
        for row, score in enumerate(line)
    ]
    names = {str(measure): name for name, measure in TRUSTED.items()}
    seen = 0
    for result in ir_measures.iter_calc(list(TRUSTED.values()), qrels, run):
        mine = ours[names[str(result.measure)]][int(result.query_id)]
        assert mine == pytest.approx(result.value, abs=1e-6), result
        seen += 1
    assert seen == len(METRICS) * len(relevant)


def test_ties_go_to_the_lower_row_whatever_the_k():
    scores = np.array([[1, 5, 5, 5, 0], [2, 2, 2, 2, 2]], dtype=np.float32)
    assert rank_top_k(scores, 2).tolist() == [[1, 2], [0, 1]]
    assert rank_top_k(scores, 99).tolist() == [[1, 2, 3, 0, 4], [0, 1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("distance", "brute"),
    [
        (Distance.COSINE, lambda q, g: q @ g / np.linalg.norm(q) / np.linalg.norm(g)),
        (Distance.DOT, lambda q, g: q @ g),
        (Distance.EUCLID, lambda q, g: -np.linalg.norm(q - g)),
        (Distance.MANHATTAN, lambda q, g: -np.abs(q - g).sum()),
    ],
)
def test_every_distance_scores_as_its_definition(distance, brute):
    rng = np.random.default_rng(1)
    query, gallery = (rng.standard_normal((n, 7)).astype(np.float32) for n in (3, 11))
    expected = [[brute(q, g) for g in gallery] for q in query]
    np.testing.assert_allclose(SearchSpace(query, gallery, distance).score(), expected, atol=1e-5)


def test_chunks_change_nothing(monkeypatch):
    rng = np.random.default_rng(2)
    query, gallery = (rng.standard_normal((n, 8)).astype(np.float32) for n in (30, 150))
    relevance = Relevance.from_rows(rng.integers(0, 150, (30, 3)).tolist())
    whole = evaluate(SearchSpace(query, gallery), relevance)
    monkeypatch.setattr(retrieval, "BLOCK_BYTES", 4 * 150 * 7)
    assert len(list(retrieval.chunk_queries(30, 150))) == 5
    parts = evaluate(SearchSpace(query, gallery), relevance)
    for name in METRICS:
        np.testing.assert_array_equal(whole.values[name], parts.values[name])


def test_a_perfect_system_scores_one_and_a_gallery_may_be_smaller_than_the_list():
    vectors = np.eye(4, dtype=np.float32)
    scores = evaluate(SearchSpace(vectors, vectors), Relevance.from_rows([[0], [1], [2], [3]]))
    assert set(scores.means) == set(METRICS)
    assert set(scores.means.values()) == {1.0}


def test_impossible_inputs_are_refused_with_a_hint():
    vectors = np.eye(4, dtype=np.float32)
    with pytest.raises(EvaluationError, match="1 of 2 queries have no relevant row") as error:
        Relevance.from_rows([[1], []])
    assert error.value.hint
    with pytest.raises(EvaluationError, match="relevance for 1"):
        evaluate(SearchSpace(vectors, vectors), Relevance.from_rows([[0]]))
    with pytest.raises(EvaluationError, match="cannot be compared"):
        SearchSpace(vectors, vectors[:, :2])
