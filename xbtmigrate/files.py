"""Write files atomically, and check when reading that they were not changed.

The tool's own files are sealed: each holds a digest of all its other bytes and of its name, so that
neither a flipped bit nor a file moved to another's place goes unnoticed. Parquet is in `tables`:
applications read the switch without pyarrow.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast
from uuid import uuid4

import pydantic
import pydantic_core

from xbtmigrate.errors import ArtefactError, XbtMigrateError

T = TypeVar("T")

SEAL_KEY = "seal"
SEAL = "sealed-by-xbtmigrate:"
UNSEALED = {SEAL_KEY: SEAL + 64 * "0"}
"""Key of the seal in a JSON object, or in the metadata of a Parquet file."""
_MARK = re.compile(SEAL.encode() + rb"([0-9a-f]{64})")
_EDGE = 2**20
"""Bytes at either end of a file that contain its seal."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file atomically: under another name, sealed and flushed, then renamed.

    Args:
        path: Where the file shall be; missing folders are made.
        write: Writes the file at the temporary path it is given.

    Raises:
        ArtefactError: The disk is full or not writable.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder: a rename is atomic within one file system only.
        temporary = path.parent / f".{path.name}.{uuid4().hex}"
        # Not by `tempfile`, whose files no other user can read: an application that runs as another
        # user reads the switch.
        temporary.touch(exist_ok=False)
        try:
            write(temporary)
            _seal(temporary, path.name)
            with temporary.open("rb+") as file:
                # Before the rename: after a power cut, the name must not point to an empty file.
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ArtefactError(
            f"{path} cannot be written: {error}", "free some space, or check the permissions"
        ) from error


def sync_folder(folder: Path) -> None:
    """Flush a folder; otherwise a power cut may undo a rename in it."""
    # Windows cannot open a folder, and flushes its entries itself.
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a sealed JSON object, atomically."""
    text = json.dumps({**content, **UNSEALED}, indent=2) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, "utf-8"))


def read_json(path: Path, form: type[T], hint: str) -> T:
    """Read a JSON file and validate its content.

    Args:
        path: The file.
        form: A pydantic model or a dataclass.
        hint: What to do where it cannot be used.

    Raises:
        FileNotFoundError: There is no such file.
        ArtefactError: It is damaged, or of another form.
    """
    check_seal(path, hint)
    content = parse_json(path.read_bytes(), str(path), hint)
    return parse({k: v for k, v in content.items() if k != SEAL_KEY}, form, str(path), hint)


def parse_json(text: str | bytes, origin: str, hint: str) -> dict[str, Any]:
    """Parse a JSON object; one nested too deeply for the parser is an error too.

    Raises:
        ArtefactError: It is not one.
    """
    try:
        # Not `json.loads`, which raises RecursionError for a document nested too deeply.
        content = pydantic_core.from_json(text)
    except ValueError as error:
        raise ArtefactError(f"{origin} is damaged: {error}", hint) from error
    if not isinstance(content, dict):
        raise ArtefactError(f"{origin} is damaged: it is not a JSON object", hint)
    return content


def parse(content: Mapping[str, Any], form: type[T], origin: str, hint: str) -> T:
    """Validate the content of a file or record and return it as a typed value.

    Args:
        content: The content, parsed.
        form: A pydantic model or a dataclass.
        origin: Where it is from, for the message.
        hint: What to do where it is of another form.

    Raises:
        ArtefactError: It is of another form.
    """
    try:
        value: T = _adapter(cast("Hashable", form)).validate_python(dict(content))
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ArtefactError(f"{origin} is damaged: {place}: {first['msg']}", hint) from error
    return value


def check_seal(path: Path, hint: str, error: type[XbtMigrateError] = ArtefactError) -> None:
    """Check that a file was not changed; a file without a seal passes.

    Raises:
        FileNotFoundError: There is no such file.
        XbtMigrateError: It cannot be read, or was changed; of the kind `error`.
    """
    try:
        # No place means no seal: a user's file, or the plan, which has a digest already.
        place, digest = _place(path)
        whole = place is None or _digest(path, path.name, place) == digest
    except FileNotFoundError:
        raise
    except OSError as failure:
        raise error(f"{path} cannot be read: {failure}", hint) from failure
    if not whole:
        raise error(f"{path} is damaged: it was changed or moved after it was written", hint)


def _seal(path: Path, name: str) -> None:
    """Write the digest of a file into its reserved place."""
    place, digest = _place(path)
    if place is not None and digest == UNSEALED[SEAL_KEY].removeprefix(SEAL):
        with path.open("rb+") as file:
            file.seek(place)
            file.write(_digest(path, name, place).encode())


def _place(path: Path) -> tuple[int | None, str]:
    """Find the digest in a file: where it begins, and what it is."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        # The end first: Parquet keeps its metadata there, and `write_json` puts the seal last.
        for start in dict.fromkeys((max(0, size - _EDGE), 0)):
            file.seek(start)
            # The last match: content before it may look like a seal.
            if found := list(_MARK.finditer(file.read(_EDGE))):
                return start + found[-1].start(1), found[-1].group(1).decode()
    return None, ""


def _digest(path: Path, name: str, place: int) -> str:
    """Hash a file and its name, but not the digest at this place."""
    # With the name, so that a file moved to the place of another does not pass.
    digest, position = hashlib.sha256(name.encode() + b"\0"), 0
    for chunk in _chunks(path):
        # The digest may span two chunks, so each leaves out its part.
        start, end = (min(max(at - position, 0), len(chunk)) for at in (place, place + 64))
        digest.update(chunk[:start] + chunk[end:])
        position += len(chunk)
    return digest.hexdigest()


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_EDGE):
            yield chunk


@cache
def _adapter(form: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(form)
