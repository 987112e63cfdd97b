"""Gaussian processes: bent maps, words as a prior, and what a mixed gallery needs."""

import dataclasses

import numpy as np
import pytest

from tests.unit.training.test_training_fit import HELD, options, world
from xbtmigrate.side_information import TextSide, Vocabulary
from xbtmigrate.training import PairSource, fit
from xbtmigrate.training.kinds import gaussian_process as module
from xbtmigrate.training.kinds.gaussian_process import PROCESS
from xbtmigrate.training.make_problem import make_problem
from xbtmigrate.types import Direction, normalized

SETTINGS = {"gamma": 2.0, "noise": 0.01, "share": 0.0}


def problem(direction=Direction.FORWARD, **how):
    pairs, task = world(**how)
    chosen = options("auto", distance=how.get("distance", "Cosine"))
    return make_problem(direction, pairs, task, (chosen.old, chosen.new), seed=1, threads=1)


@pytest.mark.parametrize("distance", ["Cosine", "Euclid"])
def test_a_process_follows_a_bend_that_no_line_can(distance):
    pairs, task = world(curve=0.6, distance=distance)
    report = fit(
        Direction.FORWARD, [pairs], task, options("ridge", "gaussian_process", distance=distance)
    )
    line = next(c for c in report.candidates if c.kind == "ridge")
    assert report.projector.kind == "gaussian_process"
    assert report.candidates[0].squared_error < line.squared_error / 2


def test_landmarks_stand_in_for_all_pairs(monkeypatch):
    given = problem(curve=0.6)
    exact = PROCESS.fit(given, SETTINGS).architecture
    monkeypatch.setattr(module, "EXACT", 100)
    monkeypatch.setattr(module, "LANDMARKS", 300)
    fewer = PROCESS.fit(given, SETTINGS).architecture
    assert (len(exact.landmarks), len(fewer.landmarks)) == (len(given.x), 300)
    far = np.mean((exact(given.x_held) - given.y_held) ** 2)
    assert np.mean((fewer(given.x_held) - given.y_held) ** 2) < 1.5 * far


def test_outputs_move_away_from_the_mean_to_where_true_vectors_lie():
    given = problem(noise=1.0)
    mean, true = given.y.mean(axis=0), np.linalg.norm(given.y - given.y.mean(axis=0), axis=1).mean()
    away = []
    for share in (0.0, 0.5, 1.0):
        mapped = PROCESS.fit(given, {**SETTINGS, "noise": 1.0, "share": share}).architecture(
            given.x_held
        )
        away.append(np.linalg.norm(mapped - mean, axis=1).mean())
    assert away[0] < 0.9 * true
    assert away[1] == pytest.approx((away[0] + true) / 2, rel=1e-3)
    assert away[2] == pytest.approx(true, rel=1e-3)


@pytest.mark.parametrize(
    ("direction", "distance", "source", "share"),
    [
        ("forward", "Cosine", "text", 0.5),
        ("bridge", "Cosine", "text", 1.0),
        ("bridge", "Cosine", "caption_image", 0.0),
        ("bridge", "Euclid", "text", 0.0),
    ],
)
def test_queries_are_moved_further_than_a_gallery(direction, distance, source, share):
    given = problem(Direction(direction), distance=distance)
    given = dataclasses.replace(given, source=PairSource(source))
    [chosen] = PROCESS.settings(given, [])
    assert chosen["share"] == share


def made_of_words(rng: np.random.Generator, length: int, count: int) -> tuple[TextSide, list[str]]:
    """Make vectors of 40 words, and texts of three words each."""
    words = [f"w{number:02}" for number in range(40)]
    table = rng.standard_normal((len(words), length)).astype(np.float32)
    table = (table - table.mean(axis=0)).astype(np.float16).astype(np.float32)
    text_side = TextSide(Vocabulary(words, np.ones(len(words), np.float32)), {"words": table})
    return text_side, [" ".join(rng.choice(words, 3, replace=False)) for _ in range(count)]


def test_words_are_a_prior_that_needs_few_pairs():
    """The new vector is what the words say and a little of the old vector."""
    pairs, task = world()
    rng = np.random.default_rng(5)
    d_new = pairs.new.shape[1]
    text_side, texts = made_of_words(rng, d_new, len(task.gallery_old))
    side = text_side.embed(texts)
    new = normalized(side + 0.3 * task.gallery_new)
    few = slice(HELD, HELD + 60)
    pairs = dataclasses.replace(
        pairs,
        ids=pairs.ids[:60],
        content_hashes=pairs.content_hashes[:60],
        old=task.gallery_old[few],
        new=new[few],
        side=side[few],
    )
    task = dataclasses.replace(
        task,
        queries_new=normalized(new[:HELD] + 0.1 * rng.standard_normal((HELD, d_new)).astype("f4")),
        gallery_new=new,
        gallery_side=side,
    )
    chosen = dataclasses.replace(
        options("ridge", "gaussian_process"), text_sides={Direction.FORWARD: text_side}
    )
    report = fit(Direction.FORWARD, [pairs], task, chosen)
    projector, best = report.projector, report.candidates[0]
    assert (projector.kind, projector.d_side) == ("gaussian_process", d_new)
    assert best.settings["side"]
    assert projector.text_side is text_side
    blind = [c for c in report.candidates if not c.settings.get("side")]
    assert best.scores.mrr > max(c.scores.mrr for c in blind) + 0.1
    assert all(other.text_side is None for other in report.others if not other.d_side)


def test_a_bridge_takes_the_words_of_queries_and_does_without_them_where_it_must():
    """The old vector is mostly what the words say; queries have one word, or an unknown one."""
    pairs, task = world()
    rng = np.random.default_rng(5)
    d_old = pairs.old.shape[1]
    text_side, texts = made_of_words(rng, d_old, len(task.gallery_old))
    side = text_side.embed(texts)
    old = normalized(side + 0.5 * task.gallery_old)
    pairs = dataclasses.replace(pairs, old=old[HELD:], query_side=side[HELD:])
    task = dataclasses.replace(
        task, gallery_old=old, queries_old=old[:HELD], queries_side=side[:HELD], self_asked=True
    )
    chosen = dataclasses.replace(options("auto"), text_sides={Direction.BRIDGE: text_side})
    bridge = fit(Direction.BRIDGE, [pairs], task, chosen).projector
    assert bridge.d_side == d_old

    blind = fit(
        *(Direction.BRIDGE, [dataclasses.replace(pairs, query_side=None)]),
        dataclasses.replace(task, queries_side=None),
        options(bridge.kind),
    ).projector
    queries, one_word = task.queries_new, [text.split()[0] for text in texts[:HELD]]

    def near(mapped):
        return float((mapped * old[:HELD]).sum(axis=1).mean())

    assert near(bridge.apply_to_queries(queries, texts[:HELD])) > near(blind.apply(queries)) + 0.1
    assert near(bridge.apply_to_queries(queries, one_word)) > near(blind.apply(queries))
    unknown = bridge.apply_to_queries(queries, ["unheardof"] * HELD)
    np.testing.assert_allclose(unknown, blind.apply(queries), atol=1e-5)


def test_variance_grows_with_the_distance_from_the_pairs():
    given = problem()
    variance = PROCESS.fit(given, SETTINGS).error
    near, far = variance(given.x), variance(-3 * given.x[:50])
    assert near.mean() < far.mean()
    assert np.isfinite(far).all()


@pytest.mark.parametrize(
    ("self_asked", "gain", "gamma"),
    [(False, 0.001, 2.0), (False, 0.01, 4.0), (True, 0.001, 4.0)],
    ids=["chance", "more", "by error"],
)
def test_settings_change_by_retrieval_only_for_more_than_chance(
    self_asked, gain, gamma, monkeypatch
):
    given = problem()
    given = dataclasses.replace(given, task=dataclasses.replace(given.task, self_asked=self_asked))
    monkeypatch.setattr(module, "_reached", lambda _, each: 0.5 + gain * (each["gamma"] == 4.0))
    (chosen,) = PROCESS.settings(given, [])
    assert chosen["gamma"] == gamma
