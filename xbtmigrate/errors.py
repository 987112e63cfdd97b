"""Define the errors that the tool raises on purpose, each with a hint about what to do."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import ClassVar

# A full disk, a used-up quota, and the largest file that a process may write (ulimit -f).
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class XbtMigrateError(Exception):
    """Root of every error that the tool raises on purpose.

    Attributes:
        message: What is wrong, in one sentence.
        hint: What the user can do about it.
        exit_code: Exit status of the command line for this class of error.
    """

    # Scripts rely on these: 1 an error, 2 wrong usage, 3 a check that failed.
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(XbtMigrateError):
    """The configuration file or an option is wrong; lists every mistake at once."""

    exit_code = 2


class GateError(XbtMigrateError):
    """A safety check failed: a stale plan, an unmet gate, a lease held by another run."""

    exit_code = 3


class StaleError(GateError):
    """A frozen plan, order or projector is out of date: something it depends on has changed."""


class LeaseError(GateError):
    """Another run holds the migration's lease, or took it while this one was working."""


class ConnectionFailedError(XbtMigrateError):
    """Qdrant or an embedding service could not be reached or refused the credentials."""


class CollectionError(XbtMigrateError):
    """The collection, its vectors or its payload do not match the configuration."""


class UnsupportedError(XbtMigrateError):
    """This server version or this collection does not support what the command needs."""


class EncoderError(XbtMigrateError):
    """An encoder could not be loaded or failed as a whole."""


class UnreadableSourceError(EncoderError):
    """Some items of a batch cannot be embedded; the others can be tried again without them.

    Attributes:
        failures: Row number in the batch -> the reason, for each item that failed.
    """

    def __init__(self, failures: Mapping[int, str]) -> None:
        first = next(iter(failures.values()), "unknown reason")
        super().__init__(
            f"{len(failures)} item(s) cannot be embedded; the first: {first}",
            "correct or remove these items; a backfill skips and counts them",
        )
        self.failures = dict(failures)


class VectorError(XbtMigrateError):
    """Vectors that a model made, or a file holds, are not usable and must not be stored."""


class ArtefactError(XbtMigrateError):
    """A file under .xbtmigrate/ is missing, damaged or of another version."""


class ExhaustedError(XbtMigrateError):
    """This machine has not enough memory, threads or disk space left for the tool."""

    @classmethod
    def of(cls, error: BaseException) -> ExhaustedError | None:
        """Translate a lack of memory, threads or disk; returns None for any other failure."""
        goes_on = "then run the same command again: it continues from here"
        if isinstance(error, OSError) and error.errno in _FULL:
            return cls(f"no disk space left: {error}", f"free some space, {goes_on}")
        # CPython raises a plain RuntimeError for this: only its text tells it from others.
        threads = isinstance(error, RuntimeError) and "can't start new thread" in str(error)
        if isinstance(error, MemoryError) or threads:
            what = "threads" if threads else "memory"
            return cls(
                f"there is not enough {what} for this: {error or type(error).__name__}",
                f"give the process more, or lower --batch-size, {goes_on}",
            )
        return None


class TrainingError(XbtMigrateError):
    """A projector cannot be fitted from the data at hand."""


class EvaluationError(XbtMigrateError):
    """Quality cannot be measured from the queries, relevance or vectors at hand."""


class PluginError(XbtMigrateError):
    """A plugin is missing, ambiguous, broken or was given options it does not take."""

    exit_code = 2
