"""From two models' vectors to a recommendation, where the right answer is known by construction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from xbtmigrate import registry
from xbtmigrate.evaluation.mixed_gallery import Single
from xbtmigrate.evaluation.queries import Questions
from xbtmigrate.evaluation.recommendation import Costs
from xbtmigrate.evaluation.servings import ServingSpec
from xbtmigrate.ordering import RandomOrdering, UncertaintyOrdering
from xbtmigrate.projectors import Projector
from xbtmigrate.training import FitOptions, ModelSpace, Pairs, PairSource, SelectionTask, fit
from xbtmigrate.types import Direction, Distance, Modality, Strategy, Vectors, normalized
from xbtmigrate.workflows.evaluate.diagnostics import compare_error_estimate, find_flips
from xbtmigrate.workflows.evaluate.experiment import ORACLE, CurveOptions, Maps, judge
from xbtmigrate.workflows.evaluate.results import Findings
from xbtmigrate.workflows.evaluate.trial import Trial

POINTS, ASKED, SIZE = 900, 300, 24
RNG = np.random.default_rng(0)
MEANING = normalized(RNG.normal(size=(POINTS, SIZE)).astype(np.float32))
TURN = np.linalg.qr(RNG.normal(size=(SIZE, SIZE)))[0].astype(np.float32)
OTHER = normalized(RNG.normal(size=(POINTS, SIZE)).astype(np.float32))


def noisy(vectors: Vectors, much: float) -> Vectors:
    noise = np.random.default_rng(len(vectors)).normal(size=vectors.shape)
    return normalized((vectors + much * noise / np.sqrt(SIZE)).astype(np.float32))


def asked_of(forward: Projector) -> CurveOptions:
    orders = {"random": RandomOrdering(), "uncertainty": UncertaintyOrdering(projector=forward)}
    return CurveOptions(make=orders.__getitem__, orders=[*orders, ORACLE])


def findings(old: Vectors, new: Vectors, queries_old: Vectors, queries_new: Vectors) -> Findings:
    """Fit both directions on points that no query asks for, and judge the rest."""
    kept = np.arange(ASKED, POINTS)
    held = kept[:100]
    pairs = Pairs(
        [str(row) for row in kept[100:]],
        [""] * len(kept[100:]),
        old[kept[100:]],
        new[kept[100:]],
        PairSource.TEXT,
    )
    task = SelectionTask(new[held], old[kept], [np.array([row]) for row in range(100)])
    options = FitOptions(
        ModelSpace("old", Distance.COSINE), ModelSpace("new", Distance.COSINE), ["ridge"], threads=1
    )
    bridge, forward = (fit(direction, [pairs], task, options).projector for direction in Direction)
    ids = [str(row) for row in range(POINTS)]
    asked = Questions(
        [f"query {row}" for row in range(ASKED)], [[i] for i in ids[:ASKED]], "made", False
    )
    trial = Trial(asked, ids, queries_old, queries_new, old, new, Distance.COSINE, Distance.COSINE)
    maps = Maps(bridge, forward)
    return Findings(Modality.TEXT, trial, maps, judge(trial, maps, asked_of(forward)), 0)


def turned(vectors: Vectors) -> Vectors:
    return vectors @ TURN


def test_keep_where_the_new_model_says_less():
    found = findings(
        MEANING,
        noisy(turned(MEANING), 3),
        noisy(MEANING[:ASKED], 0.7),
        noisy(turned(MEANING[:ASKED]), 0.7),
    )
    assert found.advise(0.95, Costs()).strategy is Strategy.KEEP


def test_bridge_where_only_the_queries_were_bad():
    found = findings(
        MEANING, turned(MEANING), noisy(MEANING[:ASKED], 2.5), noisy(turned(MEANING[:ASKED]), 0.3)
    )
    assert found.advise(0.95, Costs()).strategy is Strategy.BRIDGE


def test_forward_where_the_old_vectors_hold_the_new_ones_among_noise():
    """A bridged query meets the noise of the stored vectors, a projected gallery is rid of it."""
    noise = RNG.gamma(0.5, 2.0, (POINTS, 1)) * RNG.normal(size=(POINTS, 8))
    old = np.concatenate([MEANING, noise], axis=1).astype(np.float32)
    queries = np.concatenate([MEANING, RNG.normal(size=(POINTS, 8))], axis=1).astype(np.float32)
    found = findings(old, turned(MEANING), queries[:ASKED], noisy(turned(MEANING[:ASKED]), 0.5))
    advice = found.advise(0.95, Costs())
    assert (advice.strategy, advice.fraction) == (Strategy.FORWARD, 0.0), advice.reason


def test_fastfill_where_a_part_of_the_old_vectors_says_nothing():
    lost = (np.arange(POINTS) % 3 == 0)[:, None]
    old = normalized(np.where(lost, 0.05 * OTHER + TURN[0], MEANING).astype(np.float32))
    found = findings(
        old, turned(MEANING), noisy(MEANING[:ASKED], 0.7), noisy(turned(MEANING[:ASKED]), 0.7)
    )
    advice = found.advise(0.95, Costs())
    assert advice.strategy is Strategy.FASTFILL, advice.reason
    assert advice.ordering == "uncertainty"
    assert 0.1 < advice.fraction < 0.6


def test_full_where_the_old_vectors_say_nothing():
    found = findings(OTHER, turned(MEANING), noisy(MEANING[:ASKED], 0.7), turned(MEANING[:ASKED]))
    advice = found.advise(0.95, Costs())
    assert (advice.strategy, advice.fraction) == (Strategy.FULL, 1.0), advice.reason


def test_words_that_the_queries_repeat_recommend_nothing():
    found = findings(
        MEANING, turned(MEANING), noisy(MEANING[:ASKED], 2.5), noisy(turned(MEANING[:ASKED]), 0.3)
    )
    captions = [*found.trial.questions.texts, *[None] * (POINTS - ASKED)]
    repeated = replace(found, trial=replace(found.trial, texts=captions))
    # A projector of vectors alone gains nothing from the texts.
    assert repeated.advise(0.95, Costs()).strategy is Strategy.BRIDGE
    reading = Maps(forward=cast("Projector", SimpleNamespace(text_side=object())))
    assert not replace(found, maps=reading).flattered
    assert replace(repeated, maps=reading).flattered
    assert replace(repeated, maps=reading).advise(0.95, Costs()).strategy is Strategy.FULL


@pytest.fixture(scope="module")
def partly() -> Findings:
    lost = (np.arange(POINTS) % 3 == 0)[:, None]
    old = normalized(np.where(lost, 0.05 * OTHER + TURN[0], MEANING).astype(np.float32))
    return findings(old, turned(MEANING), MEANING[:ASKED], turned(MEANING[:ASKED]))


def test_the_predicted_error_is_held_against_the_true_one(partly: Findings):
    found = compare_error_estimate(partly.judged.mapped)
    assert found is not None
    assert found["rank_correlation"] > 0.4
    assert found["predicted"] == sorted(found["predicted"])
    assert found["true"][-1] > 5 * found["true"][0]
    for low, mean, high in zip(found["low"], found["true"], found["high"], strict=True):
        assert low <= mean <= high
    assert compare_error_estimate(replace(partly.judged.mapped, uncertainty=None)) is None


def test_queries_that_change_sides_are_named(partly: Findings):
    found = find_flips(partly.trial, partly.keep, partly.full)
    assert found["lost"] == []
    assert found["gained"]
    for example in found["gained"]:
        row = int(example["query"].removeprefix("query "))
        assert row % 3 == 0
        assert (example["before"], example["after"]) == (None, 1)
    reversed_ = find_flips(partly.trial, partly.full, partly.keep)
    assert [each["before"] for each in reversed_["lost"]] == [1] * len(reversed_["lost"])


def test_a_serving_that_rotates_the_new_space_ranks_as_one_space_does(
    partly: Findings, monkeypatch: pytest.MonkeyPatch
):
    taught: list[tuple[Vectors, Vectors]] = []

    def remap(old: Vectors, new: Vectors) -> Callable[[Vectors], Vectors] | None:
        taught.append((old, new))
        return (lambda vectors: vectors @ TURN) if len(old) else None

    brought = ServingSpec("turned", measure=lambda _: Single("turned"), remap=remap, fuses=True)
    monkeypatch.setattr(registry, "list_names", lambda _: ["turned"])
    monkeypatch.setattr(registry, "load", lambda *_: brought)
    asked = replace(asked_of(partly.maps.forward), servings=["single", "turned"])
    spent = np.arange(ASKED, ASKED + 50)
    judged = judge(partly.trial, partly.maps, replace(asked, spent=spent))
    np.testing.assert_array_equal(taught[0][1], partly.trial.new[spent])
    curves = {(curve.ordering, curve.serving): curve.values() for curve in judged.curves}
    for ordering in ("random", "uncertainty"):
        assert curves[ordering, "turned"] == pytest.approx(curves[ordering, "single"])
    assert "fusion:turned" in judged.cells
    assert {curve.serving for curve in judged.deployable} == {"single"}
    unpaid = judge(partly.trial, partly.maps, asked)
    assert {curve.serving for curve in unpaid.curves} == {"single"}


def test_what_a_sparse_vector_would_bring_stands_beside_keep_where_queries_were_judged():
    found = findings(MEANING, turned(MEANING), noisy(MEANING[:ASKED], 3), turned(MEANING[:ASKED]))
    # Every tenth point shares no word with its query.
    texts = [f"the query {row}" if row % 10 else "other words" for row in range(POINTS)]
    trial = replace(found.trial, texts=texts)
    asked = asked_of(found.maps.forward)
    judged = judge(trial, found.maps, asked)
    shown = replace(found, trial=trial, judged=judged)
    rows = {row["name"]: row for row in shown.figures()["systems"]}
    # "query" is in nearly every text; the number decides, and a single figure is no word.
    answered = np.mean([row % 10 != 0 and row > 9 for row in range(ASKED)])
    assert rows["lexical"]["recall@1"] == pytest.approx(answered, abs=0.03)
    assert rows["keep+lexical"]["recall@10"] > rows["keep"]["recall@10"]
    assert next(iter(rows)) == "keep"
    assert shown.advise(0.95, Costs()).strategy is not None
    provisional = replace(trial, questions=replace(trial.questions, provisional=True))
    assert "lexical" not in judge(provisional, found.maps, asked).cells
    captions = replace(trial, texts=[*trial.questions.texts, *texts[ASKED:]])
    assert "lexical" not in judge(captions, found.maps, asked).cells
    pictures = replace(trial, questions=replace(trial.questions, modality=Modality.IMAGE))
    assert "lexical" not in judge(pictures, found.maps, asked).cells
