"""Any encoder is held to its contract, so that one bad item is one point and never a batch."""

from __future__ import annotations

import numpy as np
import pytest

from xbtmigrate.encoders.checked import CheckedEncoder
from xbtmigrate.errors import EncoderError, UnreadableSourceError
from xbtmigrate.testing.encoders import FakeEncoder
from xbtmigrate.types import Modality


@pytest.mark.parametrize("broken", [np.nan, -np.inf, 0.0, 1e38])
def test_vectors_that_cannot_be_compared_are_named(broken):
    inner = FakeEncoder(dimension=8)
    encode = inner.encode

    def overflowing(items, modality, *, ids=None):
        rows = encode(items, modality, ids=ids)
        rows[[item == "long" for item in items]] = broken
        return rows

    inner.encode = overflowing
    with pytest.raises(UnreadableSourceError) as caught:
        CheckedEncoder(inner).encode(["a", "long", "b", "long"], Modality.TEXT)
    assert set(caught.value.failures) == {1, 3}


def test_half_a_surrogate_pair_is_named_before_any_model_sees_it():
    inner = FakeEncoder(dimension=8)
    with pytest.raises(UnreadableSourceError) as caught:
        CheckedEncoder(inner).encode(["a", "b \ud83d", "\0"], Modality.TEXT)
    assert caught.value.failures == {1: "its text is not Unicode"}
    assert inner.encoded == []
    assert CheckedEncoder(inner).encode(["a\0", "b \U0001f600"], Modality.TEXT).shape == (2, 8)


def test_another_length_than_declared_is_an_error_of_the_encoder():
    inner = FakeEncoder(dimension=8)
    inner.dimension = 7
    with pytest.raises(EncoderError, match=r"shape \(2, 8\) for 2 items, not \(2, 7\)"):
        CheckedEncoder(inner).encode(["a", "b"], Modality.TEXT)


def test_offers_what_the_encoder_offers():
    inner = FakeEncoder(dimension=8)
    inner.price_per_million_tokens = 0.1
    checked = CheckedEncoder(inner)
    assert (checked.fingerprint, checked.dimension) == (inner.fingerprint, 8)
    assert checked.price_per_million_tokens == 0.1
    assert not hasattr(checked, "count_tokens")


@pytest.mark.parametrize("rows", [(), (2,), (-1,)])
def test_an_encoder_that_refuses_no_row_of_its_batch_is_at_fault(rows):
    inner = FakeEncoder(dimension=8)

    def refuse(items, modality, *, ids=None):
        raise UnreadableSourceError(dict.fromkeys(rows, "no"))

    inner.encode = refuse
    with pytest.raises(EncoderError, match="refused rows"):
        CheckedEncoder(inner).encode(["a", "b"], Modality.TEXT)
