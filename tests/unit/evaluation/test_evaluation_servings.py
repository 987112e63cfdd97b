"""The table of servings: what is served, what is only measured, and what a package brings."""

import pytest

from xbtmigrate import registry
from xbtmigrate.errors import ConfigError, PluginError
from xbtmigrate.evaluation.servings import (
    SERVED,
    SERVINGS,
    ServingSpec,
    find_measured,
    find_serving,
)
from xbtmigrate.serving.artefact_source import FolderSource
from xbtmigrate.serving.load_state import Loader
from xbtmigrate.workflows.evaluate import evaluate
from xbtmigrate.workflows.evaluate.collect import EvaluationOptions
from xbtmigrate.workflows.evaluate.curves import Curves


def test_a_serving_is_served_or_says_why_not():
    for spec in SERVINGS.values():
        assert (spec.mixture is None) == bool(spec.only_measured)


@pytest.mark.parametrize("serving", sorted(set(SERVINGS) - set(SERVED)))
def test_what_is_only_measured_is_not_served(serving, tmp_path):
    with pytest.raises(ConfigError, match="only measured, not served") as refused:
        Loader(FolderSource(tmp_path), serving, embedded=False)
    assert "calibrated" in refused.value.hint


def test_servings_of_a_package_are_found_by_name(monkeypatch):
    brought = ServingSpec("mine", measure=lambda _: None, only_measured="it is new")
    monkeypatch.setattr(registry, "list_names", lambda _: ["broken", "mine"])
    monkeypatch.setattr(registry, "load", lambda _, name: brought if name == "mine" else name)
    assert find_measured(["mine", "single"]) == [SERVINGS["single"], brought]
    with pytest.raises(PluginError, match="no ServingSpec"):
        find_serving("broken")


def test_an_unknown_serving_names_the_package_that_brings_more():
    with pytest.raises(ConfigError, match="there is no serving") as refused:
        find_serving("nope")
    assert "xbtmigrate[research]" in refused.value.hint


def test_there_is_no_curve_of_what_does_not_depend_on_the_backfill():
    with pytest.raises(ConfigError, match="no curve of the serving 'keep'"):
        find_measured(["keep"])


def test_an_unknown_serving_is_refused_before_anything_is_read(monkeypatch):
    monkeypatch.setattr(evaluate, "open_store", lambda _: pytest.fail("opened"))
    with pytest.raises(ConfigError, match="there is no serving 'nope'"):
        evaluate.measure(
            None,
            EvaluationOptions(),
            curves=Curves(servings=["single", "nope"]),
            report=lambda *_: None,
        )
