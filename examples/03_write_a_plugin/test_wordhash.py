"""The encoder meets the contract of xbtmigrate, and so does the ordering."""

import pytest
from xbtmigrate_wordhash import NewestFirst, WordHashEncoder

from xbtmigrate.testing.encoders import EncoderContract
from xbtmigrate.testing.orderings import OrderingContract
from xbtmigrate.types import Modality


class TestWordHash(EncoderContract):
    @pytest.fixture
    def encoder(self):
        return WordHashEncoder(dimension=64)

    @pytest.fixture
    def twin(self):
        return WordHashEncoder(dimension=64)

    @pytest.fixture
    def items(self):
        return {Modality.TEXT: ["a red fox", "a blue bird", "the sea"]}

    @pytest.fixture
    def unreadable(self):
        return {Modality.TEXT: "..."}


class TestNewestFirst(OrderingContract):
    @pytest.fixture
    def make(self):
        return NewestFirst


def test_another_option_is_another_space():
    spaces = {
        WordHashEncoder().fingerprint,
        WordHashEncoder(dimension=64).fingerprint,
        WordHashEncoder(lowercase=False).fingerprint,
    }
    assert len(spaces) == 3
