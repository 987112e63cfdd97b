"""Parse options such as `--budget 30m` or `--max-rate off`; errors show how to write them."""

from __future__ import annotations

import math
import re
import shlex
import tomllib
from contextlib import suppress
from typing import TYPE_CHECKING

from xbtmigrate.errors import ConfigError

if TYPE_CHECKING:
    from xbtmigrate.evaluation.quality_gate import Gate

# Not None, which means that the option was not given: `throttle` then leaves the limit alone.
OFF = math.inf
"""A limit that is switched off."""

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_budget(text: str) -> float:
    """Read a time such as 90s, 30m, 8h or 2d, in seconds.

    Raises:
        ConfigError: It is not a time.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip())
    # A budget of 0 would end every run before its first batch.
    if match is None or float(match[1]) <= 0:
        raise ConfigError(f"--budget '{text}' is not a time", "write 90s, 30m, 8h or 2d")
    return float(match[1]) * _SECONDS[match[2]]


def parse_slowdown(text: str | float) -> float:
    """Read a limit to the slowdown, `OFF` for "off".

    Raises:
        ConfigError: It is neither "off" nor a number above 1.
    """
    return _parse_limit("--max-slowdown", text, 1.0, "1.5 for one and a half times the time before")


def parse_rate(text: str | float) -> float:
    """Read a limit to the points written per second, `OFF` for "off".

    Raises:
        ConfigError: It is neither "off" nor a number above 0.
    """
    return _parse_limit("--max-rate", text, 0.0, "2000 for 2000 points a second")


def parse_gate(text: str) -> Gate:
    """Read a quality gate such as recall@10>=0.95*full.

    Raises:
        ConfigError: It is not a gate, names what is not measured, or can never be met.
    """
    from xbtmigrate.evaluation.quality_gate import Gate

    return Gate.parse(text)


def limit_of(value: float | None) -> float | None:
    """Return a limit that was given; None where none was, or where it is switched off."""
    # A run that starts has no earlier limit to leave alone, so both mean "no limit".
    return None if value == OFF else value


def _parse_limit(option: str, text: str | float, above: float, example: str) -> float:
    # The default of an option comes as the number that it is.
    if not isinstance(text, str):
        return text
    if text == "off":
        return OFF
    try:
        value = float(text)
    except ValueError:
        value = above
    # NaN fails this comparison, too.
    if not above < value < math.inf:
        raise ConfigError(
            f"{option} '{text}' is neither a number above {above:g} nor off",
            f"for example {option} {example}",
        )
    return value


def parse_model(text: str) -> dict[str, object]:
    """Read a model such as `openai model=text-embedding-3-small dimensions=512`.

    Returns:
        The encoder and its options, as a table of the configuration holds them.

    Raises:
        ConfigError: It is no encoder followed by KEY=VALUE, or the encoder takes no such options.
    """
    from xbtmigrate import registry
    from xbtmigrate.config import GONE

    hint = "write an encoder and its options: precomputed path=vectors.parquet"
    try:
        encoder, *words = shlex.split(text)
        pairs = [word.split("=", 1) for word in words]
        options = {key: _toml(value) for key, value in pairs}
    except ValueError as error:
        raise ConfigError(f"'{text}' is not a model", hint) from error
    if text.strip() == GONE:
        return {"encoder": GONE}
    mistakes = registry.check_options(registry.ENCODERS, encoder, options)
    if mistakes:
        raise ConfigError(
            f"'{text}' is not a model: {'; '.join(f'{key}: {what}' for key, what in mistakes)}",
            hint,
        )
    return {"encoder": encoder, **options}


def _toml(value: str) -> object:
    """Read a number or a truth value; anything else is a text."""
    with suppress(tomllib.TOMLDecodeError):
        found = tomllib.loads(f"value = {value}")["value"]
        if isinstance(found, bool | int | float):
            return found
    return value
