"""Types of the events that `--progress json` prints, one a line on stderr."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict


class ProgressEvent(TypedDict):
    """How far a stage has come; a line on stderr with `--progress json`."""

    event: Literal["progress"]
    """Kind of the event."""
    stage: str
    """What is done."""
    done: int
    """How much of it is done, mostly points."""
    total: int
    """How much it is in all; 0 where that is not known."""
    per_second: float | None
    """Rate over the last half minute, per second; null while unknown."""
    eta_seconds: float | None
    """Time left in seconds; null while unknown."""
    seconds: float
    """Time since the stage began, in seconds."""
    note: str
    """The best candidate so far, for example; `""` for nothing."""


class NoteEvent(TypedDict):
    """A message; a line on stderr with `--progress json`."""

    event: Literal["note"]
    """Kind of the event."""
    text: str
    """The message, for people."""
