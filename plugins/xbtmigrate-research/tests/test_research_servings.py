"""The servings that are measured for comparison, by themselves and through `evaluate`."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from xbtmigrate_research.gated import GatedServing, choose_gate
from xbtmigrate_research.reciprocal_ranks import ReciprocalRanks
from xbtmigrate_research.shared_space import shared_space
from xbtmigrate_research.two_stage import TwoStage

from xbtmigrate import registry
from xbtmigrate.artefacts import Artefacts
from xbtmigrate.errors import ConfigError
from xbtmigrate.evaluation.mixed_gallery import Merge
from xbtmigrate.evaluation.queries import Questions
from xbtmigrate.evaluation.retrieval import rank_top_k
from xbtmigrate.evaluation.servings import find_serving, list_measured
from xbtmigrate.ordering import RandomOrdering
from xbtmigrate.projectors import Projector
from xbtmigrate.scoring.calibration import Bank, Calibration
from xbtmigrate.scoring.fusion import Fusion, Weights
from xbtmigrate.serving.artefact_source import FolderSource
from xbtmigrate.serving.load_state import Loader
from xbtmigrate.training import FitOptions, ModelSpace, Pairs, PairSource, SelectionTask, fit
from xbtmigrate.types import Channel, Direction, Distance, normalized
from xbtmigrate.workflows.evaluate.experiment import CurveOptions, Maps, judge
from xbtmigrate.workflows.evaluate.trial import Trial

NAMES = ("gated", "two-stage", "rrf", "shared-space-3", "shared-space-12")

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
def test_the_gate_is_kept_with_the_calibration(gate, tmp_path):
    vectors = np.eye(3, dtype=np.float32)
    fusion = Fusion({Channel.OLD: Weights(1.0)}, {Channel.NEW: Weights(2.0)}, 0.5, 40, 1.0)
    calibration = Calibration(
        *(fusion, fusion),
        0.3,
        Bank(["1", "2", "3"], vectors, vectors, vectors),
        ("b", "f"),
        {"gated": gate},
    )
    Artefacts(tmp_path).save_calibration(calibration)
    assert Artefacts(tmp_path).load_calibration().tuned == {"gated": gate}


def test_two_stages_find_only_what_the_old_vectors_recall():
    blocks = {
        Channel.OLD: np.array([[5, 4, 3, 2, 1]], np.float32),
        Channel.NEW: np.array([[1, 2, 3, 4, 5]], np.float32),
    }
    encoded = np.ones(5, np.bool_)
    narrow = TwoStage(Merge(), width=3).score(blocks, encoded)
    assert rank_top_k(narrow, 3).tolist() == [[2, 1, 0]]
    wide = TwoStage(Merge(), width=5).score(blocks, encoded)
    np.testing.assert_array_equal(wide, Merge().score(blocks, encoded))


def test_reciprocal_ranks_interleave_the_halves_whatever_their_scores():
    blocks = {
        Channel.OLD: np.array([[0.9, 0.8, 0.7, 0.1, 0.1]], np.float32),
        Channel.NEW: np.array([[0.0, 0.0, 0.0, 0.02, 0.01]], np.float32),
    }
    encoded = np.array([False, False, False, True, True])
    found = rank_top_k(ReciprocalRanks().score(blocks, encoded), 5)[0]
    assert {*found[:2]} == {0, 3}
    assert {*found[2:4]} == {1, 4}
    assert found[4] == 2


@pytest.mark.parametrize("serving", NAMES)
def test_they_are_found_by_name_and_only_measured(serving, tmp_path):
    assert find_serving(serving).name == serving
    assert serving in list_measured()
    with pytest.raises(ConfigError, match="only measured, not served") as refused:
        Loader(FolderSource(tmp_path), serving, embedded=False)
    assert "calibrated" in refused.value.hint


def trial_of(rng: np.random.Generator) -> Trial:
    """Queries that the old model answers worse than the new one, and 300 points in both."""
    old = normalized(rng.normal(size=(300, 16)).astype(np.float32))
    new = normalized(old[:, ::-1] + 0.3 * rng.normal(size=old.shape).astype(np.float32))
    asked, noise = slice(0, 100), rng.normal(size=(2, 100, 16)).astype(np.float32)
    ids = [str(row) for row in range(300)]
    return Trial(
        Questions([""] * 100, [[each] for each in ids[asked]], "made", provisional=False),
        ids,
        normalized(old[asked] + 0.4 * noise[0]),
        normalized(new[asked] + 0.2 * noise[1]),
        old,
        new,
        Distance.COSINE,
        Distance.COSINE,
    )


def forward_of(trial: Trial) -> Projector:
    """A forward projector fitted to points that no query asks for."""
    half = np.arange(100, 300)
    pairs = Pairs(trial.ids[200:], [""] * 100, trial.old[200:], trial.new[200:], PairSource.TEXT)
    task = SelectionTask(
        trial.new[100:200], trial.old[half], [np.array([row]) for row in range(100)]
    )
    space = partial(ModelSpace, distance=Distance.COSINE)
    options = FitOptions(space("old"), space("new"), ["ridge"], threads=1)
    return fit(Direction.FORWARD, [pairs], task, options).projector


def test_points_above_the_gate_are_left_to_the_old_space():
    """Without a gate as one space, with every point left as merge; no curve without a number."""
    trial = trial_of(np.random.default_rng(0))
    forward = forward_of(trial)
    bank = Bank(["0", "1"], trial.old[:2], trial.new[:2], trial.old[:2])
    asked = CurveOptions(lambda _: RandomOrdering(), ["random"], ["single", "merge", "gated"])

    def curves(tuned: dict[str, float]) -> dict[str, list[float]]:
        none = Fusion({}, {}, 0.0, 0, 0.0)
        calibration = Calibration(none, none, 0.0, bank, ("", ""), tuned)
        judged = judge(trial, Maps(forward=forward, calibration=calibration), asked)
        return {each.serving: each.values() for each in judged.curves}

    none, everything = curves({"gated": np.inf}), curves({"gated": -np.inf})
    assert none["single"] != none["merge"]
    assert none["gated"] == none["single"]
    assert everything["gated"] == everything["merge"]
    assert "gated" not in curves({})


@pytest.mark.long
@pytest.mark.parametrize("bound", [0, 3])
def test_a_shared_space_by_a_rotation_ranks_as_one_space_does(bound, monkeypatch):
    """Only points re-encoded for pairs teach it: without them there is no curve."""
    trial, spec = trial_of(np.random.default_rng(0)), shared_space(bound)
    forward = forward_of(trial)
    monkeypatch.setattr(registry, "list_names", lambda _: [spec.name])
    monkeypatch.setattr(registry, "load", lambda *_: spec)
    asked = CurveOptions(
        lambda _: RandomOrdering(), ["random"], ["single", spec.name], np.arange(200, 300)
    )
    judged = judge(trial, Maps(forward=forward), asked)
    single, shared = (curve.values() for curve in judged.curves)
    assert (shared == pytest.approx(single)) == (bound == 0)
    assert judged.cells[f"fusion:{spec.name}"].means["recall@10"] == shared[0]
    assert [curve.serving for curve in judged.deployable] == ["single"]
    unpaid = judge(trial, Maps(forward=forward), replace(asked, spent=np.empty(0, np.intp)))
    assert [curve.serving for curve in unpaid.curves] == ["single"]
