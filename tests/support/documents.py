"""The tables of the documentation and the printed documents, compared with the program."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from xbtmigrate.documents.catalogue import DOCUMENTS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

Row = tuple[str, ...]


def sections(page: Path) -> dict[str, str]:
    """Heading -> the text below it, up to the next heading of any level."""
    parts = re.split(r"^#{1,4} (.+)$", page.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(text: str) -> dict[str, Row]:
    """Rows of the tables in a text: what stands in backticks first -> the further cells."""
    found: dict[str, Row] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if cells and (name := re.match(r"`([^`]+)`", cells[0])):
            assert name[1] not in found, f"{name[1]} is described twice"
            found[name[1]] = tuple(cells[1:])
    return found


def check_document(printed: str, *arguments: object) -> None:
    """Check that a document has every key of its type, no other, and values of these types.

    Args:
        printed: What a command printed with --json.
        arguments: Its command line.
    """
    content = json.loads(printed)
    name = str(arguments[0])
    if "error" in content:
        name = "error"
    elif "collections" in content:
        name = "many collections"
    elif "dry_run" in content:
        name = "dry run"
    elif name == "backfill" and {"--online", "--yes"}.intersection(arguments):
        name = "backfill --online"
    elif name == "verify" and content["status"].startswith("stopped"):
        name = "verify (stopped)"
    check_as(name, printed)


def check_as(name: str, printed: str) -> None:
    """Check a document that is a certain one of the catalogue."""
    _strict(name).validate_json(f"[{printed}]", strict=True)


@cache
def _strict(name: str) -> TypeAdapter[Any]:
    # In a tuple, since pydantic takes no configuration for a TypedDict itself.
    return TypeAdapter(tuple[DOCUMENTS[name]], config=ConfigDict(extra="forbid"))
