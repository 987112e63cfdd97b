"""The options of a cutover, and the result of one of its checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xbtmigrate.evaluation.quality_gate import Gate


@dataclass(frozen=True, slots=True)
class Check:
    """One condition.

    Attributes:
        name: Its name.
        passed: Whether it holds.
        detail: What was found, in words.
        way_out: What to do where it does not hold, with the command to run.
    """

    name: str
    passed: bool
    detail: str
    way_out: str = ""


@dataclass(frozen=True, slots=True)
class Quality:
    """Quality gates, and the queries they are measured with.

    Attributes:
        gates: The conditions.
        queries: Judged queries; None for those of the configuration.
        split: Only the queries of this split.
    """

    gates: Sequence[Gate] = ()
    queries: Path | None = None
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The user's answers to conditions that only a person can decide.

    Attributes:
        readers_send_new: Every reader sends vectors of the new model from the cutover on.
        despite_evaluation: Switch although the last judged evaluation recommends `keep`.
        without_vector: Points that may stay without a new vector, at most.
    """

    readers_send_new: bool = False
    despite_evaluation: bool = False
    without_vector: int = 0


@dataclass(frozen=True, slots=True)
class CutoverOptions:
    """The options of a cutover.

    Attributes:
        act: Do it; else only check.
        alias: Alias to move; None for the configured name.
        by_switch: Whether applications follow the switch, so that no alias is moved.
        max_age: Seconds that the verification may be old.
        max_behind: Points that may still change under the last sweep before the switch.
        go_file: Wait, caught up, until this file exists; None not to wait.
        quality: Quality gates.
        accepted: The user's answers to conditions that only a person can decide.
    """

    act: bool = False
    alias: str | None = None
    by_switch: bool = False
    max_age: float = 24 * 3600.0
    max_behind: int = 100
    go_file: Path | None = None
    quality: Quality = Quality()
    accepted: Accepted = Accepted()
