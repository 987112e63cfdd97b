"""Read the rows of a table of queries, whatever it is stored as, and the ids in its cells."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from xbtmigrate.errors import ConfigError
from xbtmigrate.types import PointId, canonical_id

Row: TypeAlias = Mapping[str, Any]
TABLES = (".csv", ".tsv", ".txt")
COLUMNS = (
    *("text", "image", "relevant", "id", "relevance", "clicks", "split", "made"),
    *("query-id", "query_id", "qid", "_id"),
)
"""What is read of a Parquet file; others may be large, such as vectors."""
EXACT = 2**53
"""Whole numbers below are exact as floats."""
# Ids hold none of these: numbers, and UUIDs in any spelling.
_BETWEEN_IDS = re.compile(r"[\s,;|\[\]'\"]+")
_TOPIC = re.compile(
    r"<num>\s*(?:Number:)?\s*(\S+?)\s*(?:</num>\s*)?<title>\s*(?:Topic:)?\s*(.+?)\s*<", re.DOTALL
)


def read_rows(path: Path, hint: str, header: Sequence[str] = ()) -> list[Row]:
    """Read the rows of Parquet, JSON lines (or a list), or a table with any usual separator.

    Args:
        path: The file; its ending tells what it is.
        hint: Hint of errors.
        header: Columns of a table whose first line names none of them.

    Raises:
        ConfigError: There is no such file, or it is something else.
    """
    try:
        if path.suffix in TABLES:
            return _read_table(path, header)
        if "json" in path.suffix:
            return _read_json(path)
        held = [name for name in pq.read_schema(path).names if name in COLUMNS]
        rows: list[Row] = pq.read_table(path, columns=held).to_pylist()
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no query file {path}", f"correct plan.queries or --queries; {hint}"
        ) from error
    except (OSError, ValueError, csv.Error, pa.ArrowException) as error:
        raise ConfigError(f"{path} is not a query file: {error}", hint) from error
    return rows


def read_text(path: Path) -> str:
    """Read a text file, with or without byte order mark.

    Raises:
        ConfigError: It is not one.
    """
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", "write it as UTF-8") from error


def read_topics(path: Path) -> Iterator[tuple[str, str]]:
    """Yield number and title of the topics of TREC.

    Raises:
        ConfigError: The file has none.
    """
    found = _TOPIC.findall(read_text(path))
    if not found:
        raise ConfigError(f"{path} holds no topics of TREC", "each needs <num> and <title>")
    for number, title in found:
        yield number, " ".join(title.split())


def split_ids(value: object, path: Path) -> list[PointId]:
    """Return the ids in a cell: a list, one number, or a text of several.

    Args:
        value: The cell; None for an empty one.
        path: Its file, for messages.

    Raises:
        ConfigError: A number has lost digits.
    """
    if isinstance(value, list | tuple):
        return [read_id(each, path) for each in value if each not in (None, "")]
    if not isinstance(value, str):
        return [] if value is None else [read_id(value, path)]
    return [spell_id(each) for each in _BETWEEN_IDS.split(value) if each]


def read_id(value: object, path: Path) -> PointId:
    """Return the one id in a cell.

    Raises:
        ConfigError: It is a number that has lost digits.
    """
    if not isinstance(value, float):
        return spell_id(str(value))
    # pandas turns whole numbers into floats where a cell is empty.
    if abs(value) >= EXACT or not value.is_integer():
        raise ConfigError(
            f"{path} holds the id {value!r} as a floating-point number, which loses digits",
            "write the ids as strings",
        )
    return str(int(value))


def spell_id(text: str) -> PointId:
    """Spell an id as batches do, also where a spreadsheet wrote a number as "17.0"."""
    return canonical_id(re.sub(r"^(\d+)\.0+$", r"\1", text.strip()))


def _read_table(path: Path, header: Sequence[str]) -> list[Row]:
    # Excel writes a byte order mark, and semicolons where the comma is the decimal sign.
    text = path.read_text("utf-8-sig")
    first = text.partition("\n")[0]
    separator = "\t" if path.suffix == ".tsv" else max(",;\t", key=first.count)
    names = next(csv.reader([first], delimiter=separator), [])
    given = list(header) if header and not {*header} & {*names} else None
    # The line ends stay: a quoted field may span lines.
    lines = text.splitlines(keepends=True)
    return list(csv.DictReader(lines, fieldnames=given, delimiter=separator))


def _read_json(path: Path) -> list[Row]:
    text = path.read_text("utf-8-sig")
    found = json.loads(text) if text.lstrip().startswith("[") else None
    rows = found if found is not None else [json.loads(each) for each in text.splitlines() if each]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("a line is not an object")
    return rows
