"""One rule for each phase: what a searcher serves unasked, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from xbtmigrate.errors import UnsupportedError
from xbtmigrate.evaluation.servings import SERVED
from xbtmigrate.migration.phases import Phase
from xbtmigrate.scoring.calibration import Bank, Calibration
from xbtmigrate.scoring.fusion import Fusion, Weights
from xbtmigrate.scoring.mixture import Part, State
from xbtmigrate.serving.engine import place_query
from xbtmigrate.serving.server_fusion import SearchOptions
from xbtmigrate.serving.space import ServingSpace
from xbtmigrate.serving.state import ServingState
from xbtmigrate.types import Channel, Distance, Layout

SWITCHED = (Phase.CUT_OVER, Phase.FINALIZING, Phase.FINALIZED)
BEFORE = [None, *(phase for phase in Phase if phase not in SWITCHED)]
ANYTHING: Any = object()


def situation(phase: Phase | None, *, asked: str = "") -> ServingState:
    """Everything was trained, and every point had a new vector once."""
    return ServingState(
        migration="c-old",
        names=frozenset({"c"}),
        phase=phase,
        plan=ANYTHING,
        layout=Layout.IN_PLACE,
        old=ServingSpace("c", "old", 4, Distance.COSINE),
        new=ServingSpace("c", "new", 6, Distance.COSINE),
        switched=phase in SWITCHED,
        covered=True,
        waiting=False,
        asked=asked,
        bridge=ANYTHING,
        forward=ANYTHING,
        calibration=None,
        hubness=None,
        away=None,
        one_request=True,
    )


@pytest.mark.parametrize("phase", BEFORE)
def test_until_the_cutover_only_the_old_model_answers(phase: Phase | None):
    now = situation(phase)
    for new_model in (True, False):
        serving = now.choose(old_model=True, new_model=new_model)
        assert (serving.mixture.name, serving.space, serving.note) == ("keep", "old", "")
    with pytest.raises(UnsupportedError, match="is not cut over"):
        now.choose(old_model=False, new_model=True)


@pytest.mark.parametrize("phase", SWITCHED)
@pytest.mark.parametrize("asked", ["", *SERVED])
def test_from_the_cutover_on_the_new_model_answers_whatever_was_asked_for(phase: Phase, asked: str):
    now = situation(phase, asked=asked)
    serving = now.choose(old_model=True, new_model=True)
    assert (serving.mixture.name, serving.space) == ("single", "new")
    with pytest.raises(UnsupportedError, match="is cut over"):
        replace(now, waiting=True).choose(old_model=True, new_model=False)


def test_what_is_asked_for_is_served_or_the_old_model_stands_in():
    backfilled = situation(Phase.BACKFILLED, asked="bridge")
    assert backfilled.choose(old_model=False, new_model=True).mixture.name == "bridge"
    serving = backfilled.choose(old_model=True, new_model=False)
    note = "bridge needs the new model: serving keep"
    assert (serving.mixture.name, serving.note) == ("keep", note)
    partly = replace(backfilled, asked="single", covered=False)
    assert partly.choose(old_model=True, new_model=True).mixture.name == "keep"
    with pytest.raises(UnsupportedError):
        partly.choose(old_model=False, new_model=True)


@pytest.mark.parametrize("asked", SERVED)
def test_queries_are_centred_where_the_new_space_alone_answers(asked: str):
    away = np.ones(6, np.float32)
    fusion = Fusion({Channel.OLD: Weights(1.0)}, {Channel.NEW: Weights(2.0)}, 0.5, 40, 1.0)
    bank = Bank([], *(np.empty((0, size), np.float32) for size in (4, 6, 4)))
    bridged = Fusion({Channel.BRIDGE: Weights(1.0)}, {Channel.NEW: Weights(2.0)}, 0.5, 40, 1.0)
    known = Calibration(fusion, bridged, 0.3, bank, ("b", "f"))
    backfilled = situation(Phase.BACKFILLED, asked=asked)
    now = replace(backfilled, away=away, calibration=known, one_request=False)
    serving = now.choose(old_model=True, new_model=True)
    assert (serving.away is away) == (asked == "single")
    # A point without a new vector is met in the old space, whose scores have another scale.
    waiting = replace(now, waiting=True).choose(old_model=True, new_model=True)
    assert waiting.away is None
    switched = replace(now, phase=Phase.CUT_OVER, switched=True)
    assert switched.choose(old_model=False, new_model=True).away is away


def test_a_threshold_that_cannot_be_translated_is_one_of_queries_as_they_are():
    now = replace(situation(Phase.CUT_OVER), away=np.full(6, 0.5, np.float32))
    serving, new = now.choose(old_model=False, new_model=True), np.ones((1, 6), np.float32)
    centred = place_query(now, serving, (None, new), SearchOptions())
    assert centred.new == [1 - 3 * 0.5] * 6  # q - (q.a) a
    limited = place_query(now, serving, (None, new), SearchOptions(score_threshold=0.5))
    assert limited.new == [1.0] * 6


def test_the_bridged_query_is_fused_without_the_old_model():
    fusion = Fusion({Channel.OLD: Weights(1.0)}, {Channel.NEW: Weights(2.0)}, 0.5, 40, 1.0)
    both = {Channel.BRIDGE: Weights(0.5), Channel.FORWARD: Weights(1.5)}
    bridged = Fusion(both, {Channel.NEW: Weights(2.0), Channel.BRIDGE: Weights(0.25)}, 0.5, 40, 1.0)
    bank = Bank([], *(np.empty((0, size), np.float32) for size in (4, 6, 4)))
    known = Calibration(fusion, bridged, 0.3, bank, ("b", "f"))
    asked = situation(Phase.BACKFILLED, asked="calibrated_bridge")
    now = replace(asked, calibration=known, one_request=False)
    serving = now.choose(old_model=False, new_model=True)
    assert (serving.mixture.name, serving.space, serving.needs_old) == (
        *("calibrated_bridge", None),
        False,
    )
    assert serving.mixture.parts == {
        State.ENCODED: Part(0.25, 2.0, 0.5),
        State.PROJECTED: Part(0.5, 1.5),
        State.WAITING: Part(2.0, 0.0),
    }
    # Before a backfill the bridge alone answers; without a bridge nothing does.
    early = replace(now, phase=Phase.TRAINED)
    assert early.choose(old_model=False, new_model=True).space == "old"
    with pytest.raises(UnsupportedError):
        replace(now, bridge=None).choose(old_model=False, new_model=True)


def test_a_query_is_bridged_with_its_words_or_as_it_was_before():
    """Thresholds are measured with known queries, whose texts are not kept."""
    asked = []

    def apply_to_queries(vectors, texts):
        asked.append(texts)
        return np.full((1, 4), 2, np.float32)

    bridge: Any = SimpleNamespace(apply_to_queries=apply_to_queries)
    now = replace(situation(Phase.BACKFILLED, asked="bridge"), bridge=bridge)
    serving, new = now.choose(old_model=False, new_model=True), np.ones((1, 6), np.float32)
    by_text = place_query(now, serving, (None, new), SearchOptions(), text="green tea")
    before = np.full((1, 4), 3, np.float32)
    known = place_query(now, serving, (None, new), SearchOptions(), bridged=before)
    assert (by_text.old, known.old, asked) == ([2.0] * 4, [3.0] * 4, [["green tea"]])
