"""Which points are projected and which are left to the old space."""

import numpy as np
import pytest

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.errors import ConfigError
from xbtmigrate.evaluation.servings import SERVED, SERVINGS
from xbtmigrate.scoring.calibration import Arrangement, Bank
from xbtmigrate.scoring.fusion import Fusion, Weights
from xbtmigrate.scoring.gated import GatedServing, choose_gate
from xbtmigrate.serving.artefact_source import InFolder
from xbtmigrate.serving.load_state import Loader
from xbtmigrate.types import Channel

UNCERTAINTY = np.linspace(-3, 1, 200, dtype=np.float32)


def test_a_point_is_scored_where_it_is():
    blocks = {
        Channel.OLD: np.full((2, 4), 1, np.float32),
        Channel.FORWARD: np.full((2, 4), 2, np.float32),
        Channel.NEW: np.full((2, 4), 3, np.float32),
    }
    left, encoded = np.array([True, False, True, False]), np.array([False, False, True, True])
    scores = GatedServing(left).score(blocks, encoded)
    np.testing.assert_array_equal(scores, [[1, 2, 3, 3]] * 2)


def test_those_are_left_whose_projection_harms():
    harms = UNCERTAINTY > 0
    gate = choose_gate(UNCERTAINTY, lambda left: float((left == harms).mean()))
    assert ((gate < UNCERTAINTY) == harms).mean() > 0.9


@pytest.mark.parametrize(("best", "gate"), [(0, np.inf), (200, -np.inf)])
def test_all_or_none_may_be_left(best, gate):
    assert choose_gate(UNCERTAINTY, lambda left: -abs(int(left.sum()) - best)) == gate


def test_none_is_left_without_a_reason():
    assert choose_gate(UNCERTAINTY, lambda left: 0.5) == np.inf


@pytest.mark.parametrize("gate", [-1.25, np.inf, -np.inf])
def test_the_gate_is_kept_with_the_arrangement(gate, tmp_path):
    vectors = np.eye(3, dtype=np.float32)
    arrangement = Arrangement(
        Fusion({Channel.OLD: Weights(1.0)}, {Channel.NEW: Weights(2.0)}, 0.5, 40, 1.0),
        0.3,
        Bank(["1", "2", "3"], vectors, vectors),
        ("b", "f"),
        gate,
    )
    Artefacts(tmp_path).save_arrangement(arrangement)
    assert Artefacts(tmp_path).load_arrangement().gate == gate


@pytest.mark.parametrize("serving", sorted(set(SERVINGS) - set(SERVED)))
def test_what_is_only_measured_is_not_served(serving, tmp_path):
    with pytest.raises(ConfigError, match="only measured, not served") as refused:
        Loader(InFolder(tmp_path), serving, embedded=False)
    assert "calibrated" in refused.value.hint
