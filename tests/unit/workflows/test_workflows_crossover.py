"""The share at which the single space is as good as the old model: measured live, and warned of."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from xbtmigrate.evaluation.answer_ranks import evaluate
from xbtmigrate.evaluation.quality_gate import Gate
from xbtmigrate.evaluation.queries import Questions
from xbtmigrate.evaluation.retrieval import SearchSpace
from xbtmigrate.scoring.centring import Centring
from xbtmigrate.types import Distance, normalized
from xbtmigrate.workflows.backfill.stop_at_quality import LiveGallery
from xbtmigrate.workflows.cutover import preconditions
from xbtmigrate.workflows.evaluate.trial import Trial

COUNT, SIZE = 60, 8
ANYTHING: Any = None


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_the_live_gallery_is_measured_with_the_queries_that_a_searcher_sends(share: float) -> None:
    rng = np.random.default_rng(0)
    old, new, queries = (
        normalized(rng.standard_normal((COUNT, SIZE)).astype(np.float32) + 1) for _ in range(3)
    )
    mean = normalized(new.mean(axis=0, keepdims=True))[0]
    strengths = np.linspace(0, 1, 11).tolist()
    centring = Centring(mean.tolist(), strengths, [strengths] * 2, "f", COUNT, "tests")
    ids = [str(row) for row in range(COUNT)]
    asked = Questions(ids, [[each] for each in ids], "tests", provisional=True)
    cosine = Distance.COSINE
    trial = Trial(asked, ids, queries, queries, old, new.copy(), cosine, cosine)
    projector: Any = SimpleNamespace(apply=lambda vectors, _: vectors)
    known = np.ones(COUNT, np.bool_)
    live = LiveGallery(trial, centring, projector, known, known, seed=0)
    live.encoded[: round(share * COUNT)] = True
    gallery = np.where(live.encoded[:, None], new, old)
    centred = queries - share * np.outer(queries @ mean, mean)
    expected = evaluate(SearchSpace(centred, gallery), trial.relevance).means["recall@10"]
    assert live.judge(Gate.parse("keep")).value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("crossover", "warned"), [(0.4, True), (0.3, False), (0.2, False), (None, False)]
)
def test_a_cutover_before_the_crossover_is_warned_of(
    crossover: float | None, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = SimpleNamespace(crossover=crossover, at="2026-01-01T00:00:00+00:00")
    monkeypatch.setattr(preconditions, "load_last_judgement", lambda *_: found)
    request: Any = SimpleNamespace(plan=None, record=SimpleNamespace(fraction=0.3))
    checks = list(preconditions._crossover(ANYTHING, ANYTHING, request))
    assert [check.passed for check in checks] == [True] * warned
    if warned:
        assert "30% is re-encoded" in checks[0].detail
        assert "at 40%" in checks[0].detail
