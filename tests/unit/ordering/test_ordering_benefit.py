"""What is learned of the benefit of re-encoding a point, and the orders made of it."""

import dataclasses

import numpy as np
import pytest

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.errors import ArtefactError, PluginError
from xbtmigrate.ordering import BenefitOrdering, CombinedOrdering, DemandOrdering, rank
from xbtmigrate.ordering.benefit import BenefitModel, FeatureInputs, Reference
from xbtmigrate.ordering.trees import Trees
from xbtmigrate.scoring.calibration import Bank, Calibration
from xbtmigrate.scoring.fusion import Fusion, Weights
from xbtmigrate.training.learn_benefit import fit_estimates, measure_benefit
from xbtmigrate.types import Channel, Direction, Distance

POINTS, DIMENSIONS = 400, 6


class Identity:
    direction = Direction.FORWARD

    def apply(self, vectors):
        return vectors

    def uncertainty(self, vectors):
        return vectors[:, 0]


def world(seed=0):
    """Return points whose waiting score is off by as much as their first coordinate says."""
    rng = np.random.default_rng(seed)
    old = rng.standard_normal((POINTS, DIMENSIONS)).astype(np.float32)
    old[:, 0] = np.abs(old[:, 0])
    ids = [str(row) for row in range(POINTS)]
    right = np.eye(POINTS, dtype=np.float32) * 3
    encoded = right + rng.random((POINTS, POINTS)).astype(np.float32)
    waiting = encoded - right * old[:, 0] - 0.01
    return ids, old, waiting, encoded


def model(ids, old, waiting, encoded):
    bank = Bank(ids[1::2], old[1::2], old[1::2], old[1::2])
    weights = {Channel.OLD: Weights(1.0), Channel.FORWARD: Weights(1.0)}
    fusion = Fusion(weights, {Channel.NEW: Weights(2.0)}, 0.1, 200, 1.0)
    around = FeatureInputs(
        Calibration(fusion, fusion, 0.5, bank, ("bridge", "forward")),
        np.zeros((len(bank.ids), 2), np.float32),
        Reference(ids[:100], old[:100], old[:100]),
        Distance.COSINE,
        Distance.COSINE,
    )
    rows = np.arange(POINTS)
    measured = measure_benefit(lambda part: (waiting[part], encoded[part]), rows, scale=1.0, seed=0)
    features = around.features(ids, old, old, old[:, 0])
    return measured, BenefitModel(around, *fit_estimates(features, rows, measured, seed=0), "f")


def test_the_benefit_of_a_point_is_what_re_encoding_it_changes():
    """Nothing is won for a point that is found anyway; a point in the way of all is worth most."""
    encoded = np.eye(50, dtype=np.float32) * 5
    waiting = encoded.copy()
    waiting[7, 7] = -1  # is not found before it is re-encoded
    waiting[:, 9] = 4.9  # stands next to every answer, before none
    waiting[:, 11] = 9  # stands before every answer but its own
    waiting[:, 12:30] = np.maximum(waiting[:, 12:30], 0.5)
    found = measure_benefit(
        lambda part: (waiting[part], encoded[part]), np.arange(50), scale=10.0, seed=0
    )
    assert found.own.argmax() == 7
    assert found.own[7] > 0.5
    assert abs(found.own[3]) < 0.01
    assert found.others.argmax() == 11
    assert abs(found.others[9]) < 0.1 * found.others[11]


@pytest.mark.parametrize("kind", [BenefitOrdering, CombinedOrdering])
def test_what_was_learned_ranks_points_by_their_benefit(kind):
    ids, old, waiting, encoded = world()
    measured, learned = model(ids, old, waiting, encoded)
    scores = kind(projector=Identity(), benefit=learned).score(ids, old)
    first = rank(ids, scores)[:100]
    assert measured.own[first].mean() > 2 * measured.own.mean()


def test_trees_are_those_of_the_library_that_grew_them():
    from sklearn.ensemble import GradientBoostingRegressor

    from xbtmigrate.training.learn_benefit import TREES, _trees

    rng = np.random.default_rng(3)
    x = rng.standard_normal((500, 5)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] + rng.standard_normal(500) / 5).astype(np.float32)
    theirs = GradientBoostingRegressor(**TREES, min_samples_leaf=5, random_state=1).fit(x, y)
    new = rng.standard_normal((9000, 5)).astype(np.float32)
    np.testing.assert_allclose(_trees(x, y, seed=1)(new), theirs.predict(new), atol=1e-4)


def test_demand_weighs_what_a_point_gains_for_its_own_queries():
    ids, old, waiting, encoded = world()
    _, learned = model(ids, old, waiting, encoded)
    chosen = ids[200:210]
    order = BenefitOrdering(projector=Identity(), benefit=learned, demand=dict.fromkeys(chosen, 5))
    plain = BenefitOrdering(projector=Identity(), benefit=learned)
    with_log, without = (np.argsort(rank(ids, each.score(ids, old))) for each in (order, plain))
    assert with_log[200:210].mean() < without[200:210].mean()


def test_the_demand_order_goes_by_hits_then_by_the_other_order():
    class Longest:
        def score(self, ids, old):
            return np.array([len(point) for point in ids], np.float32)

    order = DemandOrdering(demand={"a": 2, "bbb": 1, "cc": 1}, otherwise=Longest())
    ids = ["x", "cc", "a", "yyyy", "bbb"]
    ranked = rank(ids, order.score(ids, np.zeros((5, 2), np.float32)))
    assert [ids[row] for row in ranked] == ["a", "bbb", "cc", "yyyy", "x"]
    with pytest.raises(PluginError, match="needs a log"):
        DemandOrdering(demand={})


def test_a_learned_order_says_what_it_lacks():
    with pytest.raises(PluginError, match="train-projector learns") as error:
        BenefitOrdering(projector=Identity(), benefit=None)
    assert error.value.hint


def test_points_without_an_old_vector_rank_first():
    ids, old, waiting, encoded = world()
    _, learned = model(ids, old, waiting, encoded)
    old[5] = np.nan
    scores = BenefitOrdering(projector=Identity(), benefit=learned).score(ids, old)
    assert np.isnan(scores[5])
    assert np.isfinite(np.delete(scores, 5)).all()


def test_what_was_learned_comes_back_from_disk(tmp_path):
    ids, old, waiting, encoded = world()
    _, learned = model(ids, old, waiting, encoded)
    artefacts = Artefacts(tmp_path)
    artefacts.save_benefit(learned)
    calibration = learned.surroundings.calibration
    assert artefacts.load_benefit(calibration) is None  # made for another projector
    fitting = dataclasses.replace(calibration, projectors=("bridge", "f"))
    loaded = artefacts.load_benefit(fitting)
    assert isinstance(loaded.trees.own, Trees)
    for kind in (BenefitOrdering, CombinedOrdering):
        expected = kind(projector=Identity(), benefit=learned).score(ids, old)
        found = kind(projector=Identity(), benefit=loaded).score(ids, old)
        np.testing.assert_array_equal(found, expected)
    (tmp_path / "serving" / "benefit.safetensors").write_bytes(b"damaged")
    with pytest.raises(ArtefactError, match="cannot be read"):
        artefacts.load_benefit(fitting)
