"""Every method does what its paper says it must, on a corpus that is made so that it can."""

from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
from xbtmigrate_research.measure import measure_method
from xbtmigrate_research.method import Method, Needs, answer_in_old
from xbtmigrate_research.trial import TUNING, Trial

from tests.support.made_corpus import made_corpus
from xbtmigrate.evaluation.retrieval import SearchSpace
from xbtmigrate.types import Direction

pytestmark = pytest.mark.long


KEEPING = Method(
    "keep", "", lambda trial: answer_in_old(trial, trial.corpus.asked_old), Needs(), ""
)


def figures(name, trial, **settings):
    """Measure a method, in a smaller form where it takes settings."""
    from xbtmigrate_research.methods import load_methods

    method = KEEPING if name == "keep" else load_methods()[name]
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


COMPATIBLE = ("bct", "oca", "bt2", "advbct", "prototype_perturbation", "l2r")


@cache
def trained(name, d_old=24):
    """A compatible model's figures; several tests look at the same ones."""
    return figures(name, Trial(made_corpus(d_old=d_old, seen=8, noise=0.8), 400, epochs=15))


@pytest.mark.parametrize("name", COMPATIBLE)
def test_a_model_trained_to_be_compatible_searches_the_old_gallery(name):
    found, alone, keep = trained(name), trained("head"), trained("keep")
    # Its own vectors answer better than the old model, and the stored ones far better than by a
    # head that has never seen them.
    assert found["own recall@10"] > keep["recall@10"]
    assert found["recall@10"] > alone["recall@10"] + 0.2


@pytest.mark.parametrize("name", ["oca", "bt2"])
def test_more_coordinates_leave_the_new_model_more_of_its_own(name):
    short, more = trained("bct", d_old=8), trained(name, d_old=8)
    assert more["own recall@10"] > short["own recall@10"] + 0.1


@pytest.mark.parametrize(("name", "recognised"), [("bct", True), ("head", False)])
def test_the_tool_recognises_a_compatible_model(name, recognised):
    from xbtmigrate_research.methods import load_methods

    trial = Trial(made_corpus(d_old=24, seen=8, noise=0.8), 400, epochs=15)
    outcome = load_methods()[name].run(trial)
    model = replace(trial.corpus, new=outcome.own.gallery, asked_new=outcome.own.query)
    report = Trial(model, 400).fit(Direction.BRIDGE, ["compatible"])
    found = report.candidates[0].scores.recall_at_10
    assert found > 0.9 if recognised else found < 0.3


def test_a_basis_transformation_keeps_every_angle():
    import torch
    from xbtmigrate_research.methods.bt2 import BasisTransformation

    made = BasisTransformation(6, 10, extra=2)
    basis = made.basis.weight
    torch.testing.assert_close(basis @ basis.T, torch.eye(10))


def test_perturbed_prototypes_are_further_apart():
    import torch
    from xbtmigrate_research.methods.prototype_perturbation import perturb

    old, new = (torch.from_numpy(each[:300]) for each in (made_corpus().old, made_corpus().new))
    moved = perturb(old, new)

    def nearest(vectors):
        return (vectors @ vectors.T).fill_diagonal_(-1).max(dim=1).values.mean()

    assert nearest(moved) < nearest(old)


@pytest.mark.parametrize("name", ["drift_adapter_low_rank", "drift_adapter_mlp"])
def test_adapters_stretch_what_a_rotation_cannot(name):
    trial = Trial(made_corpus(stretch=30, noise=0.1), 400)
    stretched, rotated = (figures(each, trial)["recall@1"] for each in (name, "procrustes"))
    assert stretched > rotated + 0.1


def test_a_residual_adapter_bends_where_a_low_rank_map_cannot():
    trial = Trial(made_corpus(d_old=16, curve=0.8), 500)
    assert recall("drift_adapter_mlp", trial) > recall("drift_adapter_low_rank", trial)


def test_the_converter_bends_where_ridge_cannot():
    trial = Trial(made_corpus(d_old=16, curve=0.8), 500)
    assert recall("embedding_converter", trial) > recall("forward_ridge", trial)


def test_fusion_is_above_the_projection_that_is_in_it():
    trial = Trial(made_corpus(noise=0.8), 500)
    assert recall("asymmetric_fusion", trial) > recall("forward_ridge", trial)


def test_distillation_where_the_old_model_was_right_loses_fewer_answers():
    trial = Trial(made_corpus(noise=0.8), 300)
    off, on = (figures(name, trial)["negative flips"] for name in ("muscle_off", "muscle"))
    assert on < off


def test_clustered_spaces_are_aligned_without_a_pair():
    trial = Trial(made_corpus(d_old=16, clusters=12), 250)
    # The answer is among 700 points: chance finds it in one of 70 lists.
    assert recall("mini_vec2vec", trial, clusters=12, neighbours=5) > 0.3


def test_a_gallery_that_is_mapped_at_each_update_stays_searchable():
    trial = Trial(made_corpus(noise=0.4, d_old=16), 400)
    found = figures("continual_compatible", trial)
    assert list(found)[-3:] == ["step v1", "step v2", "step v3"]
    assert min(found["step v2"], found["step v3"]) > 0.5 * found["step v1"]
    # Without a transfer no vector of the new model means anything in the old space.
    assert found["recall@10"] > recall("head", trial) + 0.5


def test_xbt_learns_its_map_from_texts_alone():
    trial = Trial(made_corpus(), 400)
    assert recall("xbt_texts", trial) > recall("procrustes", trial) - 0.1


def test_a_map_is_the_remedy_for_small_queries(monkeypatch):
    from xbtmigrate_research.methods import large_to_small

    corpus = made_corpus()
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((24, 24)))[0].astype(np.float32)

    class Tower:
        """To it, the vector of a small picture is that of the large one, turned."""

        def encode(self, rows, modality):
            return corpus.new[rows] @ turn

    monkeypatch.setattr(large_to_small, "new_model", lambda trial: Tower())
    monkeypatch.setattr(large_to_small, "read_pictures", lambda trial, rows, size: rows)
    trial = Trial(corpus, 400)
    assert recall("large_to_small", trial) > recall("small_queries", trial) + 0.5


def test_a_gate_is_above_projecting_everything_where_half_cannot_be_projected():
    trial = Trial(made_corpus(d_old=16, blurred=True), 500)
    assert recall("darwinian_gate", trial) > recall("forward_kernel", trial) + 0.05


def test_both_kinds_of_vectors_share_a_space_with_the_old_model_in_it():
    trial = Trial(made_corpus(), 400)
    found, ridge = figures("shared_space", trial), figures("forward_ridge", trial)
    assert found["AUC random"] > ridge["recall@10"]
    # B leaves a rotation, which costs the new model little.
    assert found["own recall@10"] > ridge["recall@10"]
