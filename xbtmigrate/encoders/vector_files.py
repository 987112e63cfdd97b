"""Find the Parquet files of vectors made elsewhere: one, a folder of them, or a pattern."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeAlias

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from pydantic import BeforeValidator

from xbtmigrate.errors import EncoderError
from xbtmigrate.types import digest_of

# Bytes. Hashing a file of 100 GB would take minutes at every start, so larger ones are sampled.
_HASHED_WHOLE = 256 * 2**20
_SAMPLED = 2**20
# Bytes. Large enough for few requests to an object store, small beside a row group.
_BUFFER = 8 * 2**20
_OPTIONS = re.compile(r"\?\w+=[^*\[]*$")


def _path_or_url(value: object) -> object:
    return value if "://" in str(value) else Path(str(value))


Location: TypeAlias = Annotated[Path | str, BeforeValidator(_path_or_url)]
"""A path, or the URL of a file system that Arrow or fsspec opens, such as s3://bucket/folder."""


@dataclass(frozen=True, slots=True)
class VectorFiles:
    """The files, in the order of their names.

    Attributes:
        location: As they were asked for, for messages.
        filesystem: Where they are.
        paths: Their paths there.
    """

    location: Path | str
    filesystem: pafs.FileSystem
    paths: Sequence[str]

    @classmethod
    def find(cls, location: Path | str) -> VectorFiles:
        """Find one file, all of a folder, or those that a pattern matches.

        Raises:
            EncoderError: There are none, or the file system cannot be read.
        """
        try:
            filesystem, root = _open_filesystem(location)
            paths = list(_list_paths(filesystem, root))
        except (pa.ArrowException, OSError, ValueError, ImportError) as error:
            raise EncoderError(
                f"{location} cannot be read: {error}",
                "check the address, and that this machine may read it",
            ) from error
        if not paths:
            raise EncoderError(
                f"{location} does not exist or has no Parquet files",
                "give a Parquet file of vectors, a folder of them, or a pattern such as new/*",
            )
        return cls(location, filesystem, sorted(paths))

    @contextmanager
    def open(self, path: str) -> Iterator[pq.ParquetFile]:
        """Open one of the files.

        Raises:
            pa.ArrowException, OSError: It cannot be read, or is not a Parquet file.
        """
        with (
            self.filesystem.open_input_file(path) as source,
            # A buffer ahead of the reader would hold whole row groups, and so the whole file.
            pq.ParquetFile(source, buffer_size=_BUFFER, pre_buffer=False) as file,
        ):
            yield file

    def digest(self) -> str:
        """Hash the files' content: of large ones their size, footer, head and tail."""
        digests = [self._digest(path) for path in self.paths]
        # Without names: a folder that was moved or written in other parts holds the same model.
        return digests[0] if len(digests) == 1 else digest_of(sorted(digests))

    def _digest(self, path: str) -> str:
        with self.filesystem.open_input_file(path) as file:
            size = file.size()
            if size <= _HASHED_WHOLE:
                return hashlib.file_digest(file, "sha256").hexdigest()
            digest = hashlib.sha256(size.to_bytes(8, "little") + file.read(_SAMPLED))
            file.seek(size - 8)
            # Parquet ends with its footer, the footer's length in 4 bytes, and "PAR1". The footer
            # has offsets and statistics of every column, so most changes show there.
            footer = int.from_bytes(file.read(4), "little") + 8
            file.seek(size - max(footer, _SAMPLED))
            digest.update(file.read())
            return digest.hexdigest()


def _open_filesystem(location: Path | str) -> tuple[pafs.FileSystem, str]:
    if isinstance(location, Path):
        return pafs.LocalFileSystem(), location.as_posix()
    # Options of the file system, such as ?endpoint_override=...: a wildcard names no value.
    options = _OPTIONS.search(location)
    given = "" if options is None else options[0]
    location = location.removesuffix(given)
    # A pattern is no valid URL, so only what stands before it is parsed as one.
    start = _fixed(location)
    try:
        filesystem, root = pafs.FileSystem.from_uri(start + given)
    except pa.ArrowInvalid:
        # A scheme that Arrow does not know; fsspec comes with the package of its file system.
        import fsspec

        opened, root = fsspec.core.url_to_fs(start)
        filesystem = pafs.PyFileSystem(pafs.FSSpecHandler(opened))
    # Object stores refuse a path with two slashes.
    rest = location.removeprefix(start).lstrip("/")
    return filesystem, f"{root.rstrip('/')}/{rest}" if rest else root


def _list_paths(filesystem: pafs.FileSystem, root: str) -> Iterator[str]:
    found = filesystem.get_file_info(root)
    if found.is_file:
        yield root
        return
    is_folder = found.type is pafs.FileType.Directory
    base = root if is_folder else _fixed(root)
    for each in filesystem.get_file_info(
        pafs.FileSelector(base, recursive=True, allow_not_found=True)
    ):
        below = PurePosixPath(each.path.removeprefix(base))
        # Spark and Hadoop leave such files and folders beside what they wrote.
        hidden = any(part.startswith(("_", ".")) for part in below.parts)
        wanted = below.suffix == ".parquet" if is_folder else PurePosixPath(each.path).match(root)
        if each.is_file and wanted and not hidden:
            yield each.path


def _fixed(pattern: str) -> str:
    """Return the folder of a pattern: all before the first part with a wildcard."""
    wildcard = re.search(r"[*?\[]", pattern)
    return pattern if wildcard is None else pattern[: wildcard.start()].rpartition("/")[0]


def spell_keys(keys: pa.Array) -> list[str]:
    """Return keys as texts; an integer as its digits, and the 16 bytes of a UUID in its spelling.

    Args:
        keys: An array of a type for which `holds_keys` is true, without nulls.
    """
    kind = keys.type
    if isinstance(kind, pa.BaseExtensionType):
        return spell_keys(keys.storage)
    if pa.types.is_dictionary(kind):
        return spell_keys(keys.dictionary_decode())
    if kind == pa.binary(16):
        return [_spell_uuid(each.hex()) for each in keys.to_pylist()]
    spelled: list[str] = keys.cast(pa.string()).to_pylist()
    return spelled


def holds_keys(kind: Any) -> bool:
    """Return whether an Arrow type can hold point ids or texts."""
    if isinstance(kind, pa.BaseExtensionType):
        return holds_keys(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return holds_keys(kind.value_type)
    # Spark has no unsigned integers: ids above 2^63 are decimals without a fraction there.
    whole = pa.types.is_decimal(kind) and kind.scale == 0
    texts = {pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary()}
    return whole or pa.types.is_integer(kind) or kind in texts or kind == pa.binary(16)


def _spell_uuid(digits: str) -> str:
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
