"""What a refusal says, whether a user can act on it, and what is typed then."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.zoo.application import Application

MAX_CHARACTERS = 600
_EXIT_CODES = {1, 2, 3}
_OF_PYTHON = re.compile(r"\b(Key|Type|Value|Index|Attribute|Runtime)Error\b")
_OFFERS = {
    "--by-switch": "--by-switch",
    "--readers-send-new-vectors": "--readers-send-new-vectors",
    "--despite-evaluation": "--despite-evaluation",
    "--allow-model-mismatch": "--allow-model-mismatch",
    "--no-snapshot": "--no-snapshot",
    "--leave-behind": "--leave-behind",
    "--max-behind": "--max-behind 100000",
    "plan.max_missing": "set plan.max_missing 1.0",
    'plan.layout = "shadow"': "set plan.layout shadow",
    'plan.strategy = "fastfill"': "set plan.strategy fastfill",
    'plan.strategy = "full"': "set plan.strategy full",
    "another name for the new vector": "set qdrant.new_vector renamed",
}
"""What is offered, and what is typed then; `set` stands for a key of the configuration."""
# An option whose value is a name belongs to the command that was refused.
_COMMAND = re.compile(
    r"xbtmigrate ((?:backfill|verify|plan|train-projector|cutover)"
    r"(?: --[a-z-]+\b(?: \d[\w.]*)?(?! [^\s-]))*)"
)
_LIMITS = re.compile(r'PATCH /collections/.+? (\{"strict_mode_config".*?\}\})')


class BrokenError(Exception):
    """A law is broken; its text says which and how."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one command ended.

    Attributes:
        command: The command with its options.
        code: Its exit code.
        document: Its JSON document.
    """

    command: Sequence[str]
    code: int
    document: dict[str, Any]

    @property
    def advice(self) -> str:
        """What it says to do."""
        if error := self.document.get("error"):
            return str(error["hint"])
        following = [str(self.document.get(key) or "") for key in ("next", "next_note")]
        return "\n".join([*following, *self._failed()])

    @property
    def sentence(self) -> str:
        """What it says is wrong."""
        if error := self.document.get("error"):
            return str(error["message"])
        return "; ".join(self._failed()) or str(self.document.get("status"))

    def __str__(self) -> str:
        command = " ".join(self.command)
        return f"`{command}` ended with {self.code}: {self.sentence!r} [{self.advice}]"

    def check(self) -> None:
        """Hold a refusal against the second law.

        Raises:
            BrokenError: It is no sentence with a way out and a documented exit code.
        """
        error = self.document.get("error")
        if self.code not in _EXIT_CODES:
            raise BrokenError(f"not a documented exit code: {self}")
        if error is not None and error["exit_code"] != self.code:
            raise BrokenError(f"the document says {error['exit_code']}: {self}")
        if not self.sentence.strip() or not self.advice.strip():
            raise BrokenError(f"no sentence with a way out: {self} {self.document}")
        if error is not None and len(self.sentence) > MAX_CHARACTERS:
            raise BrokenError(f"{len(self.sentence)} characters are no sentence: {self}")
        if match := _OF_PYTHON.search(self.sentence):
            raise BrokenError(f"{match[0]} of Python is no sentence: {self}")

    def _failed(self) -> Iterator[str]:
        yield from self.document.get("reasons", [])
        yield from self.document.get("settings", [])
        for gate in self.document.get("gates", []):
            if not gate["passed"]:
                yield f"{gate['name']}: {gate['detail']}"


def ways_out(outcome: Outcome, application: Application) -> Iterator[str]:
    """Yield what is typed then: an option, `set KEY VALUE`, `PATCH BODY`, a command, `again`.

    `judge` stands for writing judged queries.
    """
    offered = f"{outcome.advice}\n{outcome.sentence}"
    for count in re.findall(r"--accept-without-vector[ =](\d+)", offered):
        yield f"--accept-without-vector {count}"
    alias_is_beside = application.specimen.alias == "beside"
    if "--alias" in offered and "--alias" not in outcome.command and alias_is_beside:
        yield f"--alias {application.alias}"
        return
    if "--vector" in offered and outcome.command[0] == "init":
        yield f"--vector {shlex.quote(application.vector)}"
    yield from (typed for offer, typed in _OFFERS.items() if offer in offered)
    yield from (f"PATCH {body}" for body in _LIMITS.findall(offered))
    for command in _COMMAND.findall(offered):
        verb, _, options = command.partition(" ")
        # The refused command itself is repeated with what it needs besides.
        yield command if verb != outcome.command[0] else options or "again"
    if "plan.queries" in offered:
        yield "judge"
    same = shlex.split(str(outcome.document.get("next") or ""))[1:] == [*outcome.command]
    if same or "same command again" in offered or "run it again" in offered:
        yield "again"
