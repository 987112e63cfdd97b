"""Files: written whole or not at all, and Parquet that may be damaged."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from xbtmigrate.errors import ArtefactError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place, flush it to disk, then move it there.

    Args:
        path: Where the file shall be; missing folders are made.
        write: Writes the file at the temporary path it is given.

    Raises:
        ArtefactError: The disk is full or not writable.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ArtefactError(
            f"{path} cannot be written: {error}", "free some space, or check the permissions"
        ) from error


def read_parquet(path: Path) -> pa.Table:
    """Read a Parquet file that the tool can do without.

    Raises:
        ArtefactError: It cannot be read.
    """
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise ArtefactError(
            f"{path} cannot be read: {error}", "delete the file: it can be done without"
        ) from error
