"""Every method does what its paper says it must, on a corpus that is made so that it can."""

from dataclasses import replace
from functools import partial

import pytest
from xbtmigrate_research.measure import measure_method
from xbtmigrate_research.trial import TUNING, Trial

from tests.support.made_corpus import made_corpus
from xbtmigrate.evaluation.retrieval import SearchSpace

pytestmark = pytest.mark.long


def figures(name, trial, **settings):
    """Measure a method, in a smaller form where it takes settings."""
    from xbtmigrate_research.methods import load_methods

    method = load_methods()[name]
    smaller = replace(method, run=partial(method.run, **settings))
    return measure_method("made", smaller, trial).figures


def recall(name, trial, **settings):
    return figures(name, trial, **settings)["recall@10"]


def test_fct_bends_where_ridge_cannot():
    trial = Trial(made_corpus(d_old=16, curve=0.8), 500)
    assert recall("fct", trial, trunk=128) > recall("forward_ridge", trial) + 0.05


def test_fastfill_embeds_first_what_it_cannot_project():
    found = figures("fastfill", Trial(made_corpus(d_old=16, blurred=True), 500), trunk=128)
    assert found["AUC own"] > found["AUC random"] + 0.02


def test_slerp_is_at_least_as_good_as_both_ends():
    trial = Trial(made_corpus(), 300)
    corpus = trial.corpus
    keep = trial.judge(SearchSpace(corpus.asked_old, corpus.old), TUNING).means["recall@10"]
    assert recall("slerp", trial) >= keep - 0.05
    assert recall("slerp", trial) >= recall("procrustes", trial)


def test_merging_is_never_below_the_old_model_and_psi_saves_the_old_query():
    trial = Trial(made_corpus(d_old=16), 400)
    merged, reverse = figures("merge", trial), figures("merge_compatible", trial)
    assert merged["negative flips"] == 0
    assert merged["AUC random"] >= merged["recall@10"]
    assert reverse["AUC random"] > merged["AUC random"] - 0.1


def test_drift_compensation_undoes_a_shift_only():
    trial = Trial(made_corpus(d_old=16, d_new=16), 300)
    assert recall("drift_compensation", trial) < recall("procrustes", trial)
