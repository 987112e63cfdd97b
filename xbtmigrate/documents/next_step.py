"""Type of the part of a document that names the next command."""

from __future__ import annotations

from typing_extensions import TypedDict


class NextDocument(TypedDict):
    """What to do after a command."""

    next: str | None
    """Command to run next, complete as it stands; null where none is due."""
    next_note: str | None
    """What to do or to know before that, for people; null for nothing."""
