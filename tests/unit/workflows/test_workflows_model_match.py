"""Is the declared old model the one that made the stored vectors, and if not quite, why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from xbtmigrate.errors import EncoderError, GateError
from xbtmigrate.migration.plan import ModelMatch
from xbtmigrate.testing.encoders import FakeEncoder
from xbtmigrate.types import Distance, Modality, PointId, Vectors, normalized
from xbtmigrate.workflows.plan.model_match import match_old_model, require_match
from xbtmigrate.workflows.points import Points

TEXTS = [f"entry {number} " + "of a long list " * (number % 10) for number in range(60)]
MODEL = FakeEncoder(dimension=16, seed=1)


def embed(texts: Sequence[str]) -> Vectors:
    return MODEL.encode(texts, Modality.TEXT)


def near(vectors: Vectors, cosine: float) -> Vectors:
    """Turn every vector until it has this cosine with what it was."""
    noise = np.random.default_rng(0).normal(size=vectors.shape).astype(np.float32)
    noise = normalized(noise - (noise * vectors).sum(axis=1, keepdims=True) * vectors)
    return np.asarray(cosine * vectors + np.sqrt(1 - cosine**2) * noise, np.float32)


@dataclass(frozen=True)
class Declared:
    """An encoder of texts that does what a test says to them."""

    make: Callable[[Sequence[str]], Vectors] = embed
    dimension: int = 16
    fingerprint: str = "declared"
    modalities: frozenset[Modality] = field(default_factory=lambda: frozenset({Modality.TEXT}))

    def encode(
        self,
        items: Sequence[str],
        modality: Modality,
        *,
        ids: Sequence[PointId] | None = None,
    ) -> Vectors:
        if modality is not Modality.TEXT:
            raise EncoderError("texts only", "give texts")
        return self.make(items)


def match(
    stored: Vectors, encoder: Declared = Declared(), distance: Distance = Distance.COSINE
) -> ModelMatch:
    ids = [str(number) for number in range(len(TEXTS))]
    points = Points(ids, TEXTS, [None] * len(TEXTS), [""] * len(TEXTS), stored)
    return match_old_model(points, encoder, Modality.TEXT, 0.99, distance)


def test_the_same_model_is_not_remarked():
    assert match(embed(TEXTS)).remark is None
    assert match(embed(TEXTS).astype(np.float16).astype(np.float32)).remark is None
    assert match(embed(TEXTS), distance=Distance.DOT).remark is None
    assert match(3 * embed(TEXTS)).remark is None


def cut(texts: Sequence[str]) -> list[str]:
    return [text[:60] for text in texts]


@pytest.mark.parametrize(
    ("stored", "encoder", "said"),
    [
        (
            embed([f"passage: {text}" for text in TEXTS]),
            Declared(),
            'the prefix "passage: ", which fits best (median cosine 1.0000): set passage_prefix = '
            '"passage: " and query_prefix = "query: "',
        ),
        (
            near(embed([f"search_document: {text}" for text in TEXTS]), 0.995),
            Declared(),
            'the prefix "search_document: ", which fits best (median cosine 0.9950)',
        ),
        (embed(TEXTS), Declared(lambda texts: embed(cut(texts))), "truncation"),
        (near(embed(TEXTS), 0.995), Declared(), "another version or precision"),
        (
            np.where(np.arange(60)[:, None] % 3 == 0, embed(TEXTS), near(embed(TEXTS), 0.9)),
            Declared(),
            "20 of 60 points match and the others do not",
        ),
    ],
)
def test_the_likely_cause_is_named(stored: Vectors, encoder: Declared, said: str):
    found = match(stored.astype(np.float32), encoder)
    assert found.remark is not None
    assert said in found.remark
    if not found.matches:
        with pytest.raises(GateError, match="likely cause"):
            require_match(found, Modality.TEXT, 0.99)


def test_other_lengths_are_remarked_where_the_distance_sees_them():
    remark = match(2 * embed(TEXTS), distance=Distance.DOT).remark
    assert remark is not None
    assert "0.5 times as long" in remark
    assert "normalisation" in remark


def test_an_encoder_that_only_knows_given_texts_is_not_blamed():
    known = set(TEXTS)

    def lookup(texts: Sequence[str]) -> Vectors:
        if not set(texts) <= known:
            raise EncoderError("unknown text", "give the text")
        return near(embed(texts), 0.9)

    remark = match(embed(TEXTS), Declared(lookup)).remark
    assert remark is not None
    assert "another version" in remark
