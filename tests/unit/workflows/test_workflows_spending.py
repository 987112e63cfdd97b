"""A run ends when embedding has cost as much as the user allows."""

from __future__ import annotations

import pytest

from xbtmigrate.encoders.checked import CheckedEncoder
from xbtmigrate.errors import ConfigError
from xbtmigrate.testing.encoders import FakeEncoder
from xbtmigrate.workflows.backfill.spending import SPENT, Spending


class Paid(FakeEncoder):
    cost = 0.0


def test_the_limit_is_a_reason_to_stop_once_it_is_reached():
    encoder = Paid()
    why = Spending(CheckedEncoder(encoder), 5.0).or_stop(lambda: "")
    assert why() == ""
    encoder.cost = 4.99
    assert why() == ""
    encoder.cost = 5.0
    assert why() == SPENT


def test_other_reasons_come_first_and_no_limit_is_none():
    encoder = Paid()
    encoder.cost = 9.0
    assert Spending(encoder, 5.0).or_stop(lambda: "interrupted")() == "interrupted"
    unlimited = Spending(encoder)
    assert unlimited.or_stop(lambda: "")() == ""
    assert unlimited.cost == 9.0


def test_a_limit_needs_an_encoder_that_counts():
    assert Spending(FakeEncoder()).cost is None
    with pytest.raises(ConfigError, match="--max-cost") as caught:
        Spending(CheckedEncoder(FakeEncoder()), 5.0)
    assert "price_per_million_tokens" in caught.value.hint


def test_what_copies_of_the_encoder_spend_elsewhere_counts():
    encoder = Paid()
    encoder.cost = 3.0
    spending = Spending(encoder, 5.0)
    spending.add(1.5)
    assert spending.cost == 4.5
    spending.add(0.5)
    assert spending.or_stop(lambda: "")() == SPENT
