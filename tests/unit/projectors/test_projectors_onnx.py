"""Projectors as ONNX models: the same vectors, whatever the form and the spaces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnxruntime
import pytest

from xbtmigrate.errors import ArtefactError, UnsupportedError
from xbtmigrate.projectors import Affine, Manifest, Mlp, Projector
from xbtmigrate.projectors.onnx import TOLERANCE, difference, model_of
from xbtmigrate.types import Direction, Distance


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32) / 4


FORMS = {
    "affine": Affine(draw(12, 5), draw(5)),
    "one hidden layer": Mlp(draw(12, 5), (draw(12, 16), draw(16, 5)), (draw(16), draw(5))),
    "two hidden layers": Mlp(
        draw(12, 5), (draw(12, 16), draw(16, 8), draw(8, 5)), (draw(16), draw(8), draw(5))
    ),
}


def projector(form, input_distance=Distance.COSINE, output_distance=Distance.COSINE) -> Projector:
    facts = Manifest(
        Direction.BRIDGE,
        "test",
        12,
        5,
        input_distance,
        output_distance,
        old_model="old:1",
        new_model="new:2",
    )
    return Projector(facts, form)


@pytest.mark.parametrize("distances", [("Cosine", "Cosine"), ("Cosine", "Dot"), ("Euclid", "Dot")])
@pytest.mark.parametrize("form", FORMS)
def test_the_model_gives_the_projectors_vectors(form, distances):
    given = projector(FORMS[form], *map(Distance, distances))
    model = model_of(given).SerializeToString()
    assert difference(model, given) <= TOLERANCE
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for rows in (1, 3, 0):
        x = 7 * draw(rows, 12)
        [made] = session.run(["projected"], {"vectors": x})
        np.testing.assert_allclose(made, given.apply(x), atol=1e-5, rtol=1e-5)


def test_the_model_says_what_it_is():
    given = projector(FORMS["affine"])
    facts = {each.key: each.value for each in model_of(given).metadata_props}
    assert facts == {
        "direction": "bridge",
        "kind": "test",
        "digest": given.digest,
        "old_model": "old:1",
        "new_model": "new:2",
    }


def test_another_projectors_model_is_found_out():
    model = model_of(projector(FORMS["affine"])).SerializeToString()
    turned = projector(Affine(-FORMS["affine"].weight, FORMS["affine"].bias))
    with pytest.raises(ArtefactError, match="differs from the bridge projector"):
        difference(model, turned)


def test_a_form_that_onnx_does_not_know_is_refused():
    @dataclass(frozen=True)
    class Twice:
        name = "twice"
        d_in, d_out = 12, 5

    with pytest.raises(UnsupportedError, match="'twice' has no ONNX form") as refused:
        model_of(projector(Twice(), Distance.DOT, Distance.DOT))
    assert refused.value.hint
