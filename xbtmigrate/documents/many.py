"""Types of the document that a command prints for many collections."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from typing_extensions import TypedDict

from xbtmigrate.documents.next_step import NextDocument

Outcome: TypeAlias = Literal[
    "error", "check failed", "interrupted", "not started", "done", "done before"
]


class OneOfManyDocument(TypedDict):
    """How a command ended for one collection."""

    collection: str
    """The collection."""
    outcome: Outcome
    """How it ended: with an error (exit code 1 or 2), with a check that failed (3), interrupted by
    you, not started because of that, done now, or done by an earlier call of the same command."""
    message: str
    """The error, or the status that the command reports; "" for none. Of `status`: why the
    collection needs attention, or else its phase."""
    hint: str
    """What to do about an error; "" for none."""
    document: dict[str, Any] | None
    """What the command prints for this collection alone; null where it printed nothing."""


class ManyDocument(NextDocument):
    """How a command ended for each of many collections."""

    command: str
    """The command."""
    collections: list[OneOfManyDocument]
    """Those that need attention first."""
    counts: dict[str, int]
    """Number of collections by outcome."""
