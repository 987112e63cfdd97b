"""Options are parsed, and refused, before a verb runs."""

from __future__ import annotations

import pytest

from xbtmigrate.cli.parsers import (
    OFF,
    limit_of,
    parse_budget,
    parse_model,
    parse_rate,
    parse_slowdown,
)
from xbtmigrate.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("8h", 28800), ("2d", 172800), ("5", 5)]
)
def test_budget(text: str, seconds: float):
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["soon", "0s", "", "-3m", "3w"])
def test_budget_that_is_no_time(text: str):
    with pytest.raises(ConfigError, match="--budget"):
        parse_budget(text)


def test_limits():
    assert (parse_slowdown("1.2"), parse_rate("2000")) == (1.2, 2000)
    assert parse_slowdown("off") == parse_rate("off") == OFF
    assert (limit_of(OFF), limit_of(1.5)) == (None, 1.5)
    # A default is passed as the value that it is.
    assert (parse_slowdown(1.5), parse_rate(OFF)) == (1.5, OFF)


@pytest.mark.parametrize("text", ["1", "0.5", "inf", "nan", "fast"])
def test_slowdown_that_is_no_limit(text: str):
    with pytest.raises(ConfigError, match="--max-slowdown"):
        parse_slowdown(text)


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan"])
def test_rate_that_is_no_limit(text: str):
    with pytest.raises(ConfigError, match="--max-rate"):
        parse_rate(text)


def test_a_model_is_an_encoder_with_its_options():
    assert parse_model("precomputed path='my old.parquet' normalize=true") == {
        "encoder": "precomputed", "path": "my old.parquet", "normalize": True,
    }  # fmt: skip
    assert parse_model("open_clip model=ViT-B-32 batch_size=8")["batch_size"] == 8


@pytest.mark.parametrize("text", ["", "precomputed old.parquet", "precomputed file=x", "'"])
def test_text_that_is_no_model(text: str):
    with pytest.raises(ConfigError, match="is not a model"):
        parse_model(text)
