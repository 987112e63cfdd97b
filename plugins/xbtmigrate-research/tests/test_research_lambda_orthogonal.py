"""The near-orthogonal map, by itself and as a bridge."""

import numpy as np
import pytest
from xbtmigrate_research.lambda_orthogonal import LAMBDAS, near_orthogonal

from tests.unit.training.test_training_fit import options, world
from xbtmigrate.training import fit
from xbtmigrate.types import Direction, normalized


@pytest.mark.long
def test_lambda_bounds_the_way_from_a_rotation():
    new = normalized(np.random.default_rng(0).standard_normal((600, 12)).astype(np.float32))
    distances = []
    for bound in (0.0, 1.5):
        weight = near_orthogonal(new, normalized(new[:, :8]), bound, seed=0)
        assert weight.shape == (12, 12)
        distances.append(np.linalg.norm(weight @ weight.T - np.eye(12)))
    assert distances[0] < 1e-4
    assert 0.1 < distances[1] < 2


@pytest.mark.long
def test_the_kind_is_found_by_name_and_bridges():
    pairs, task = world()
    report = fit(Direction.BRIDGE, [pairs], task, options("lambda_orthogonal"))
    assert {each.settings["lambda"] for each in report.candidates} == set(LAMBDAS)
    assert report.candidates[0].scores.recall_at_1 > 0.9
    assert (report.projector.kind, report.projector.d_out) == ("lambda_orthogonal", 8)
