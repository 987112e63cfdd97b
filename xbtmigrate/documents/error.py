"""Types of the documents that every command can print instead of its own."""

from __future__ import annotations

from typing_extensions import TypedDict


class Failure(TypedDict):
    """What went wrong, and what to do."""

    type: str
    """Class of the error, see [Errors](#errors)."""
    message: str
    """What is wrong."""
    hint: str
    """What to do about it."""
    exit_code: int
    """Exit code of the command."""


class ErrorDocument(TypedDict):
    """What a command prints instead of its own document where it fails."""

    error: Failure
    """The error."""


class DryRunDocument(TypedDict):
    """What a command prints with `--dry-run` where it cannot show what it would do."""

    dry_run: str
    """What it changes, in a sentence."""
