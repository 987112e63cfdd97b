"""Complete the next command, so that it does what is meant when it is typed as it is printed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from xbtmigrate.cli.options import CONFIG

PASSING = ("--json", "--dry-run")
"""Options that belong to one call, and not to the one that follows it."""


def complete(command: str, config: Path | None) -> str:
    """Return a command with the options of the present one that it needs.

    The same verb keeps all options, such as `--fraction` of a `backfill` that becomes one with
    `--online`. Another verb keeps the configuration only.

    Args:
        command: The program, a verb and its options.
        config: Configuration of the present command; None where it has none.
    """
    program, verb, *options = shlex.split(command)
    wanted, kept = _grouped(options), []
    if sys.argv[1:2] == [verb]:
        named = {_name(each) for each in wanted} | set(PASSING)
        kept = [each for each in _grouped(sys.argv[2:]) if _name(each) not in named]
    elif config not in (None, CONFIG):
        wanted.append(["-c", str(config)])
    return shlex.join([program, verb, *(word for each in [*kept, *wanted] for word in each)])


def _grouped(words: Iterable[str]) -> list[list[str]]:
    """Group words into options with their values."""
    groups: list[list[str]] = []
    for word in words:
        if word.startswith("-") or not groups:
            groups.append([])
        groups[-1].append(word)
    return groups


def _name(option: list[str]) -> str:
    return option[0].partition("=")[0]
