"""One rule for each phase: what a searcher serves unasked, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from xbtmigrate.errors import UnsupportedError
from xbtmigrate.migration.phases import Phase
from xbtmigrate.serving.state import SERVINGS, Situation, Space
from xbtmigrate.types import Distance, Layout

SWITCHED = (Phase.CUT_OVER, Phase.FINALIZING, Phase.FINALIZED)
BEFORE = [None, *(phase for phase in Phase if phase not in SWITCHED)]
ANYTHING: Any = object()


def situation(phase: Phase | None, *, asked: str = "") -> Situation:
    """Everything was trained, and every point had a new vector once."""
    return Situation(
        migration="c-old",
        names=frozenset({"c"}),
        phase=phase,
        plan=ANYTHING,
        layout=Layout.IN_PLACE,
        old=Space("c", "old", 4, Distance.COSINE),
        new=Space("c", "new", 6, Distance.COSINE),
        switched=phase in SWITCHED,
        covered=True,
        waiting=False,
        asked=asked,
        bridge=ANYTHING,
        forward=ANYTHING,
        arrangement=None,
        hubness=None,
        one_request=True,
    )


@pytest.mark.parametrize("phase", BEFORE)
def test_until_the_cutover_only_the_old_model_answers(phase: Phase | None):
    now = situation(phase)
    for new_model in (True, False):
        mixture, note = now.mixture(old_model=True, new_model=new_model)
        assert (mixture.name, mixture.space(waiting=False), note) == ("keep", "old", "")
    with pytest.raises(UnsupportedError, match="is not cut over"):
        now.mixture(old_model=False, new_model=True)


@pytest.mark.parametrize("phase", SWITCHED)
@pytest.mark.parametrize("asked", ["", *SERVINGS])
def test_from_the_cutover_on_the_new_model_answers_whatever_was_asked_for(phase: Phase, asked: str):
    now = situation(phase, asked=asked)
    mixture, _ = now.mixture(old_model=True, new_model=True)
    assert (mixture.name, mixture.space(waiting=False)) == ("single", "new")
    with pytest.raises(UnsupportedError, match="is cut over"):
        replace(now, waiting=True).mixture(old_model=True, new_model=False)


def test_what_is_asked_for_is_served_or_the_old_model_stands_in():
    backfilled = situation(Phase.BACKFILLED, asked="bridge")
    assert backfilled.mixture(old_model=False, new_model=True)[0].name == "bridge"
    mixture, note = backfilled.mixture(old_model=True, new_model=False)
    assert (mixture.name, note) == ("keep", "bridge needs the new model: serving keep")
    partly = replace(backfilled, asked="single", covered=False)
    assert partly.mixture(old_model=True, new_model=True)[0].name == "keep"
    with pytest.raises(UnsupportedError):
        partly.mixture(old_model=False, new_model=True)
