"""Every phase has a next step, and none names a command that would refuse."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

import pytest

from tests.support.messages import written_texts
from xbtmigrate.cli.app import command_of
from xbtmigrate.cli.verbs import VERBS
from xbtmigrate.migration.phases import Phase
from xbtmigrate.types import Strategy
from xbtmigrate.workflows.next_step import find_command, find_next_step


@dataclass(frozen=True)
class Advised:
    strategy: Strategy | None


@dataclass(frozen=True)
class Planned:
    strategy: Strategy
    recommendation: Advised = Advised(Strategy.FULL)


FASTFILL = Planned(Strategy.FASTFILL)


def command(*arguments, **options) -> str | None:
    return find_next_step(*arguments, **options)["next"]


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_has_one_idle_and_running(phase: Phase):
    found = find_next_step(phase, FASTFILL)
    assert found["next"] or found["next_note"]
    assert command(phase, FASTFILL, running=True) is None
    assert command(phase, FASTFILL, running=True, paused=True) == "xbtmigrate resume"


def test_a_pause_outlives_the_run():
    for phase in (Phase.BACKFILLING, Phase.PAUSED):
        assert command(phase, FASTFILL, paused=True) == "xbtmigrate resume"
    assert command(Phase.VERIFIED, FASTFILL, paused=True) == "xbtmigrate cutover"


@pytest.mark.parametrize(
    ("strategy", "advised", "phase", "step"),
    [
        (Strategy.FULL, Strategy.FULL, Phase.PLANNED, "xbtmigrate backfill"),
        (Strategy.FASTFILL, Strategy.FULL, Phase.PLANNED, "xbtmigrate train-projector"),
        (Strategy.BRIDGE, Strategy.BRIDGE, Phase.PLANNED, "xbtmigrate train-projector"),
        (Strategy.BRIDGE, Strategy.BRIDGE, Phase.TRAINED, "xbtmigrate publish --yes"),
        (Strategy.FORWARD, Strategy.BRIDGE, Phase.TRAINED, "xbtmigrate backfill"),
        (Strategy.KEEP, Strategy.KEEP, Phase.PLANNED, None),
        (Strategy.KEEP, None, Phase.PLANNED, "xbtmigrate plan"),
        (Strategy.FULL, None, Phase.PLANNED, "xbtmigrate backfill"),
    ],
)
def test_before_anything_is_written_the_strategy_decides(
    strategy: Strategy, advised: Strategy | None, phase: Phase, step: str | None
):
    assert command(phase, Planned(strategy, Advised(advised))) == step


def test_without_a_plan():
    assert command(None, None) == "xbtmigrate plan"


def test_a_cutover_names_how_readers_are_switched():
    assert command(Phase.VERIFIED, FASTFILL, route=" --by-switch").endswith("cutover --by-switch")


def test_the_first_command_of_a_way_out():
    assert find_command("`xbtmigrate abort` and then `xbtmigrate plan`") == "xbtmigrate abort"
    assert find_command("restore `plan.json` from a copy") is None


def test_every_command_that_is_named_can_be_typed():
    """In every text of the package: its verb exists, and takes the options that are named."""
    named = {
        each
        for text in written_texts()
        for each in (*re.findall(r"`xbtmigrate ([^`]+)`", text), *_whole(text))
    }
    assert len(named) > 20
    for words in map(shlex.split, named):
        verb, *options = words
        if verb in VERBS:
            known = {
                spelling
                for option in command_of(verb).params
                for spelling in (*option.opts, *option.secondary_opts)
            }
            assert {each for each in options if each.startswith("-")} <= known | {"-h"}, words
        else:
            assert verb in {"--help", "--version", "VERB"}, words


def _whole(text: str) -> list[str]:
    found = re.fullmatch(r"xbtmigrate ([a-z-]+(?: --[a-z-]+)*)", text)
    return [found[1]] if found else []
