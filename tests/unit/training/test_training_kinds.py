"""Each kind of projector does what its source says."""

import dataclasses
import re

import numpy as np
import pytest

from tests.unit.training.test_training_fit import options, world
from xbtmigrate.errors import ArtefactError, ConfigError
from xbtmigrate.training import find_trainer, fit
from xbtmigrate.training.fit_uncertainty import rank_correlation
from xbtmigrate.training.make_problem import make_problem
from xbtmigrate.training.race import attempt, race
from xbtmigrate.types import Direction, normalized


def problem(direction=Direction.FORWARD, pairs=None, **changes):
    made, task = world()
    chosen = options("auto")
    spaces = (chosen.old, chosen.new)
    found = make_problem(direction, pairs or made, task, spaces, seed=1, threads=1)
    return dataclasses.replace(found, **changes)


def fitted(kind, given, **settings):
    trainer = find_trainer(kind)
    return trainer.fit(given, {**trainer.settings(given, [])[0], **settings})


@pytest.mark.parametrize("direction", Direction)
def test_compatible_models_are_cut_or_padded(direction):
    given = problem(direction)
    mapped = fitted("compatible", given).architecture(given.x)
    width = min(given.x.shape[1], given.y.shape[1])
    np.testing.assert_array_equal(mapped[:, :width], given.x[:, :width])
    assert not mapped[:, width:].any()


def test_mean_shift_moves_the_mean_and_nothing_else():
    given = problem()
    moved = given.x + np.float32(0.3)
    mapped = fitted("mean_shift", problem(y=moved)).architecture(given.x)
    np.testing.assert_allclose(mapped, moved, atol=1e-5)


@pytest.mark.parametrize("reweight", [0.0, 1.0])
def test_whitening_undoes_a_stretch_that_no_rotation_can(reweight):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 6)).astype(np.float32)
    y = (x * np.array([1, 2, 4, 8, 16, 32], np.float32))[:, ::-1].copy()
    given = problem(x=x, y=y)
    errors = {
        kind: np.mean((fitted(kind, given, **settings).architecture(x) - y) ** 2)
        for kind, settings in {
            "whitened": {"reweight": reweight},
            "procrustes": {"centred": True},
        }.items()
    }
    assert errors["whitened"] < errors["procrustes"] / 4


def test_low_rank_maps_have_the_rank_they_say():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 32)).astype(np.float32)
    y = x @ rng.standard_normal((32, 40)).astype(np.float32)
    given = problem(x=x, y=y)
    assert {s["rank"] for s in find_trainer("low_rank").settings(given, [])} == {4, 16}
    weight = fitted("low_rank", given, rank=16).architecture.weight
    values = np.linalg.svd(weight, compute_uv=False)
    assert values[15] > 1e-2
    assert values[16] < 1e-4


@pytest.mark.long
@pytest.mark.parametrize("kind", ["mlp", "fct", "fastfill"])
def test_networks_compute_the_same_in_numpy_as_in_torch(kind):
    import torch

    from xbtmigrate.training.kinds.networks import NETWORKS, length

    given = problem()
    trainer = find_trainer(kind)
    network = NETWORKS[trainer.network](given, trainer.settings(given, [])[0])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
        network.train()
        network(torch.from_numpy(given.x))  # moves the batch norms' statistics
        wanted = network.eval()(torch.from_numpy(given.x)).numpy()
    exported = network.exported()
    d_out = given.y.shape[1]
    mapped = exported.architecture(given.x) / length(given.y)
    np.testing.assert_allclose(mapped, wanted[:, :d_out], atol=1e-4)
    if kind == "fastfill":
        shift = exported.error(given.x) - wanted[:, d_out]
        np.testing.assert_allclose(shift, shift[0], atol=1e-4)


@pytest.mark.long
def test_the_side_vector_helps_where_it_holds_what_the_old_one_lacks():
    given = problem()
    blind = problem(x=given.x * np.float32([1] * 4 + [0] * 4), side=4)
    beside = problem(x=given.x, side=4)
    errors = [
        np.mean((each.project(fitted("fct", each).architecture, each.x) - each.y) ** 2)
        for each in (blind, beside)
    ]
    assert errors[1] < errors[0] / 2


@pytest.mark.long
def test_fastfill_knows_where_it_is_wrong():
    pairs, _ = world()
    rng = np.random.default_rng(0)
    blurred = pairs.new + rng.standard_normal(pairs.new.shape) * 0.4 * (pairs.old[:, :1] > 0)
    given = problem(pairs=dataclasses.replace(pairs, new=normalized(blurred.astype(np.float32))))
    estimate = fitted("fastfill", given).error(given.x_held)
    assert rank_correlation(estimate, given.x_held[:, 0]) > 0.5


@pytest.mark.long
def test_side_vectors_are_for_the_kind_that_takes_them():
    pairs, task = world()
    side = pairs.old[:, 4:] * 3
    pairs = dataclasses.replace(pairs, old=pairs.old[:, :4], side=side)
    whole = task.gallery_old
    task = dataclasses.replace(
        task, gallery_old=whole[:, :4], gallery_side=whole[:, 4:] * 3, queries_old=None
    )
    report = fit(Direction.FORWARD, [pairs], task, options("procrustes", "fct"))
    projector = report.projector
    assert (report.candidates[0].kind, projector.d_in, projector.d_side) == ("fct", 4, 4)
    assert not any(c.settings.get("side") for c in report.candidates if c.kind == "procrustes")
    ridge = fit(Direction.FORWARD, [pairs], task, options("ridge"))
    assert [bool(c.settings.get("side")) for c in ridge.candidates] == [True, False]
    assert ridge.projector.d_side == 4
    mapped = projector.apply(pairs.old, pairs.side)
    np.testing.assert_allclose(mapped, projector.apply(5 * pairs.old, pairs.side), atol=1e-5)
    assert np.mean((mapped * pairs.new).sum(axis=1)) > 0.9
    assert projector.uncertainty(pairs.old).shape == (len(pairs),)
    with pytest.raises(ArtefactError, match="side vectors of shape"):
        projector.apply(pairs.old)
    bridge = fit(Direction.BRIDGE, [pairs], task, options("ridge", "fct"))
    assert (bridge.projector.kind, bridge.projector.d_side) == ("ridge", 0)


@pytest.mark.long
def test_reverse_queries_retrieve_like_the_new_model():
    given = problem(Direction.BRIDGE)
    found = fitted("reverse_query", given, epochs=6)
    assert given.score(found.architecture).recall_at_1 > 0.9


@pytest.mark.long
def test_leaders_are_trained_on_all_pairs_and_the_rest_on_some(monkeypatch):
    monkeypatch.setattr("xbtmigrate.training.race.FEW_PAIRS", 100)
    monkeypatch.setattr("xbtmigrate.training.race.HEAT_PAIRS", 200)
    quick = dataclasses.replace(find_trainer("mlp"), noises=(0.0,), epochs=6)
    also = dataclasses.replace(find_trainer("fct"), epochs=6)
    given, trainers = problem(), [find_trainer("ridge"), quick, also]
    found = race(trainers, [given], ["fct", "mlp"], lambda *_: None)
    by_kind = {kind: [c.pairs for c in found if c.kind == kind] for kind in ("mlp", "fct")}
    assert by_kind["fct"] == [len(given.x)]
    assert sorted(by_kind["mlp"]) == [200, len(given.x)]
    assert all(c.pairs == len(given.x) for c in found if c.kind == "ridge")


@pytest.mark.long
def test_a_heat_is_judged_by_what_it_learned_and_not_by_its_start():
    given, trainer = problem(), find_trainer("mlp")
    start = fitted("ridge", given, penalty=1e-2).architecture(given.x)
    heat = fitted("mlp", given, epochs=2).architecture(given.x)
    assert np.abs(heat - start).max() > 1e-3
    losses = {each["loss"] for each in trainer.settings(given, [])}
    heats = [fitted("mlp", given, epochs=2, loss=loss).architecture(given.x) for loss in losses]
    assert np.abs(heats[0] - heats[1]).max() > 1e-3


def test_a_candidate_holds_what_was_fitted():
    found = attempt(find_trainer("ridge"), problem(), {"penalty": 0.1})
    assert (found.kind, found.pairs) == ("ridge", 495)
    assert found.scores.recall_at_1 > 0.9


def test_progress_counts_the_fits_and_names_the_best_so_far():
    said = []
    pairs, task = world()
    fit(
        Direction.FORWARD,
        [pairs],
        task,
        options("procrustes", "ridge"),
        lambda *step: said.append(step),
    )
    assert said[0] == (0, 2, "")
    assert [done for done, _, _ in said] == sorted(done for done, _, _ in said)
    assert said[-1][:2] == (2, 2)
    assert re.fullmatch(r"best \w+ [01]\.\d{3}", said[-1][2])


@pytest.mark.long
def test_a_kind_that_does_not_map_this_way_is_refused():
    pairs, task = world()
    with pytest.raises(ConfigError, match="fct maps in the direction bridge"):
        fit(Direction.BRIDGE, [pairs], task, options("fct"))
