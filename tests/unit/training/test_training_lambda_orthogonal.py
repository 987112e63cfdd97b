"""The space that both models share: close to a rotation, and one query for every state."""

import numpy as np
import pytest

from tests.unit.training.test_training_fit import options, world
from tests.unit.training.test_training_kinds import problem
from xbtmigrate.projectors import SharedSpace
from xbtmigrate.training import fit
from xbtmigrate.training.kinds.lambda_orthogonal import LAMBDAS, near_orthogonal
from xbtmigrate.types import Direction, normalized
from xbtmigrate.workflows.train.shared_space import fit_shared_space


def fits(pairs, task, chosen):
    return {each: fit(each, [pairs], task, chosen) for each in Direction}


def test_lambda_bounds_the_way_from_a_rotation():
    pytest.importorskip("torch")
    x = normalized(np.random.default_rng(0).standard_normal((600, 12)).astype(np.float32))
    given = problem(Direction.BRIDGE, x=x, y=normalized(x[:, :8]))
    distances = []
    for bound in (0.0, 1.5):
        weight = near_orthogonal(given, bound)
        assert weight.shape == (12, 12)
        distances.append(np.linalg.norm(weight @ weight.T - np.eye(12)))
    assert distances[0] < 1e-4
    assert 0.1 < distances[1] < 2


def test_one_query_finds_points_in_every_state(tmp_path):
    pairs, task = world()
    chosen = options("ridge", "lambda_orthogonal")
    report = fit_shared_space([pairs], task, chosen, fits(pairs, task, chosen))
    assert tuple(report.scores) == LAMBDAS
    assert max(each.recall_at_1 for each in report.scores.values()) > 0.9
    report.space.save(tmp_path)
    space = SharedSpace.load(tmp_path)
    query = space.bridge.apply(task.queries_new[:20])
    for state in (
        space.kept(task.gallery_old),
        space.forward.apply(task.gallery_old),
        space.bridge.apply(task.gallery_new),
    ):
        assert ((query @ state.T).argmax(axis=1) == np.arange(20)).mean() > 0.9


def test_there_is_none_unless_asked_for_between_cosine_spaces():
    pairs, task = world()
    assert (
        fit_shared_space([pairs], task, options("ridge"), fits(pairs, task, options("ridge")))
        is None
    )
    forward = fit(Direction.FORWARD, [pairs], task, options("ridge"))
    assert fit_shared_space([pairs], task, options("auto"), {Direction.FORWARD: forward}) is None
    euclid = options("auto", distance="Euclid")
    given = dict.fromkeys(Direction, forward)
    assert fit_shared_space([pairs], task, euclid, given) is None
