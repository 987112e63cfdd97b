"""The estimate of a fully re-encoded gallery from a part of it."""

import numpy as np
import pytest

from xbtmigrate.evaluation.answer_ranks import evaluate
from xbtmigrate.evaluation.estimate_full import impute_full
from xbtmigrate.evaluation.retrieval import Relevance, SearchSpace

POINTS, QUERIES = 6000, 600


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    items = rng.standard_normal((POINTS, 24)).astype(np.float32)
    noise = rng.uniform(0.2, 1.4, (QUERIES, 1))
    queries = items[:QUERIES] + noise * rng.standard_normal((QUERIES, 24))
    return SearchSpace(queries.astype(np.float32), items)


def estimate(space, encoded, sample):
    """Estimate with the rows of the answers, the encoded ones and the sample known."""
    known = np.unique(np.concatenate([np.arange(QUERIES), encoded, sample]))
    return impute_full(
        SearchSpace(space.query, space.gallery[known]),
        Relevance.from_rows(np.searchsorted(known, np.arange(QUERIES))[:, None].tolist()),
        encoded=np.isin(known, encoded),
        sample=np.isin(known, sample),
        points=POINTS,
        seed=1,
    ).means


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_a_sample_of_the_rest_tells_what_the_whole_would_reach(world, share):
    truth = evaluate(world, Relevance.from_rows([[row] for row in range(QUERIES)])).means
    shuffled = np.random.default_rng(2).permutation(POINTS)
    encoded, rest = np.split(shuffled, [int(share * POINTS)])
    found = estimate(world, encoded, rest[:1000])
    for metric in ("recall@10", "mrr@10", "ndcg@10"):
        assert found[metric] == pytest.approx(truth[metric], abs=0.04)
    few = evaluate(
        SearchSpace(world.query, world.gallery[: QUERIES + 1000]),
        Relevance.from_rows([[row] for row in range(QUERIES)]),
    ).means
    error = abs(found["recall@10"] - truth["recall@10"])
    assert abs(few["recall@10"] - truth["recall@10"]) > 2 * error  # a small gallery misleads


def test_the_estimate_is_exact_once_everything_is_encoded(world):
    truth = evaluate(world, Relevance.from_rows([[row] for row in range(QUERIES)])).means
    found = estimate(world, np.arange(POINTS), np.empty(0, np.intp))
    assert found == pytest.approx(truth)
