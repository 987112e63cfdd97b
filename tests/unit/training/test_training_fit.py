"""Fitting: every kind learns what it can, the best is kept, bad input is refused."""

import dataclasses

import numpy as np
import pytest

from xbtmigrate import Projector
from xbtmigrate.errors import ConfigError, TrainingError
from xbtmigrate.training import (
    FitOptions,
    ModelSpace,
    Pairs,
    PairSource,
    SelectionTask,
    fit,
)
from xbtmigrate.training.fit_uncertainty import rank_correlation
from xbtmigrate.types import Direction, Distance, normalized

COUNT, HELD = 700, 150


def world(curve=0.0, noise=0.0, distance="Cosine"):
    """Two models of the same latent things; `curve` bends the new one away from linear."""
    d_old, d_new = 8, 12
    rng = np.random.default_rng(3)
    latent = rng.standard_normal((COUNT, d_old)).astype(np.float32)
    basis = np.linalg.qr(rng.standard_normal((d_new, d_new)))[0][:d_old]
    bent = latent + curve * np.roll(latent**2 - 1, 1, axis=1)
    old, new = latent, (bent @ basis).astype(np.float32)
    old = old + noise * rng.standard_normal(old.shape).astype(np.float32)
    if distance == "Cosine":
        old, new = normalized(old), normalized(new)
    ids = [str(i) for i in range(HELD, COUNT)]
    pairs = Pairs(ids, [""] * len(ids), old[HELD:], new[HELD:], PairSource.TEXT)
    relevant = [np.array([row]) for row in range(HELD)]
    return pairs, SelectionTask(new[:HELD], old, relevant, old[:HELD], new)


def options(*kinds, distance="Cosine"):
    space = Distance(distance)
    return FitOptions(ModelSpace("old", space), ModelSpace("new", space), kinds, seed=1, threads=1)


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("distance", ["Cosine", "Dot", "Euclid"])
def test_closed_forms_recover_a_rotation_between_unequal_dimensions(direction, distance):
    pairs, task = world(distance=distance)
    for kind in ("ridge", "procrustes"):
        report = fit(direction, [pairs], task, options(kind, distance=distance))
        found, full = report.candidates[0].scores, report.baselines["full"]
        assert found.mrr == pytest.approx(full.mrr, abs=0.02)
    source, target = (pairs.old, pairs.new)
    if direction is Direction.BRIDGE:
        source, target = target, source
    mapped = report.projector.apply(source)
    np.testing.assert_allclose(mapped, target, atol=0.01 * np.abs(target).max())


@pytest.mark.long
@pytest.mark.parametrize("distance", ["Cosine", "Euclid"])
def test_the_network_beats_the_line_where_the_truth_is_bent(distance):
    pairs, task = world(curve=0.6, distance=distance)
    report = fit(Direction.FORWARD, [pairs], task, options("ridge", "mlp", distance=distance))
    best_ridge = next(c for c in report.candidates if c.kind == "ridge")
    assert report.projector.kind == "mlp"
    assert report.candidates[0].scores.mrr > best_ridge.scores.mrr + 0.05
    if distance == "Cosine":
        ranked = sorted(report.candidates, key=lambda c: c.scores.order, reverse=True)
    else:
        ranked = sorted(report.candidates, key=lambda c: c.squared_error)
    assert report.candidates == ranked


def test_auto_tries_every_closed_form_and_reports_baselines():
    pairs, task = world(noise=0.2)
    said = []
    report = fit(
        Direction.BRIDGE, [pairs], task, options("auto"), lambda *state: said.append(state)
    )
    closed = {"compatible", "mean_shift", "procrustes", "whitened", "ridge", "low_rank"}
    assert {c.kind for c in report.candidates} == closed | {"gaussian_process"}
    assert len(said) == len(report.candidates) + 1  # before each, and at the end
    assert report.baselines["full"].recall_at_1 == 1
    assert 0.2 < report.baselines["keep"].recall_at_10 <= 1
    assert not report.projector.has_uncertainty


@pytest.mark.long
def test_equal_seeds_give_equal_projectors():
    pairs, task = world(curve=0.3, noise=0.1)
    first, second = (
        fit(Direction.BRIDGE, [pairs], task, options("mlp")).projector for _ in range(2)
    )
    assert first.digest == second.digest
    assert first.manifest.data_digest == second.manifest.data_digest


def test_the_source_that_retrieves_best_is_chosen():
    good, task = world()
    shuffled = np.random.default_rng(0).permutation(len(good))
    bad = dataclasses.replace(good, new=good.new[shuffled], source=PairSource.IMAGE)
    report = fit(Direction.BRIDGE, [bad, good], task, options("procrustes", "ridge"))
    assert report.projector.manifest.pair_source == "text"
    assert {c.source for c in report.candidates} == {"text", "image"}


@pytest.mark.parametrize(
    ("kind", "estimates"),
    [
        ("procrustes", {"neighbours"}),
        ("gaussian_process", {"neighbours", "process_variance"}),
        pytest.param("mlp", {"neighbours", "heteroscedastic"}, marks=pytest.mark.long),
    ],
)
def test_uncertainty_follows_the_true_error_on_points_not_seen(kind, estimates):
    pairs, task = world(noise=0.0)
    rng = np.random.default_rng(0)
    blurred = pairs.new + rng.standard_normal(pairs.new.shape) * 0.4 * (pairs.old[:, :1] > 0)
    pairs = dataclasses.replace(pairs, new=normalized(blurred.astype(np.float32)))
    report = fit(Direction.FORWARD, [pairs], task, options(kind))
    figures = report.projector.manifest.uncertainty_metrics
    assert set(figures) == estimates
    assert report.projector.error.name == max(figures, key=figures.get)
    inputs = task.gallery_old[:HELD]
    estimate = report.projector.uncertainty(inputs)
    assert rank_correlation(estimate, inputs[:, 0]) > 0.5
    ratio = np.exp(estimate[inputs[:, 0] > 0.1].mean() - estimate[inputs[:, 0] < -0.1].mean())
    assert ratio > 2


@pytest.mark.long
def test_what_was_fitted_comes_back_from_disk(tmp_path):
    pairs, task = world(curve=0.3)
    projector = fit(Direction.FORWARD, [pairs], task, options("mlp")).projector
    projector.save(tmp_path / "projector")
    loaded = Projector.load(tmp_path / "projector")
    assert loaded.digest == projector.digest
    assert (loaded.manifest.old_model, loaded.manifest.new_model) == ("old", "new")
    assert loaded.manifest.libraries["torch"]
    assert set(loaded.manifest.metrics) == {
        "held_out_recall@1", "held_out_recall@10", "held_out_mrr", "cosine", "error",
    }  # fmt: skip
    np.testing.assert_array_equal(loaded.uncertainty(pairs.old), projector.uncertainty(pairs.old))


def broken_pairs():
    pairs, _ = world()
    nan = pairs.new.copy()
    nan[5, 2] = np.nan
    few = Pairs(pairs.ids[:9], [""] * 9, pairs.old[:9], pairs.new[:9], pairs.source)
    return {
        "too few": ("9 'text' pairs are too few", few),
        "not finite": ("1 of 550 new vectors", dataclasses.replace(pairs, new=nan)),
        "constant": (
            "all 550 old vectors",
            dataclasses.replace(pairs, old=np.ones_like(pairs.old)),
        ),
        "dimension": ("9 -> 12", dataclasses.replace(pairs, old=np.ones((550, 9), np.float32))),
    }


@pytest.mark.parametrize("case", ["too few", "not finite", "constant", "dimension"])
def test_pairs_nothing_can_be_learnt_from(case):
    message, pairs = broken_pairs()[case]
    with pytest.raises(TrainingError, match=message) as caught:
        fit(Direction.BRIDGE, [pairs], world()[1], options("ridge"))
    assert caught.value.hint


def test_other_mistakes_are_told():
    pairs, task = world()
    outside = dataclasses.replace(task, relevant=[np.array([COUNT])] * HELD)
    empty = dataclasses.replace(task, relevant=[np.array([], int)] * HELD)
    for groups, chosen, kinds, message in [
        ([], task, ("ridge",), "no pairs"),
        ([pairs], task, ("forest",), "forest"),
        ([pairs], task, (), "none given"),
        ([pairs], outside, ("ridge",), "outside"),
        ([pairs], empty, ("ridge",), "not all with relevant"),
    ]:
        with pytest.raises((TrainingError, ConfigError), match=message):
            fit(Direction.BRIDGE, groups, chosen, options(*kinds))
