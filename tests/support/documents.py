"""The tables of the documentation, as data that tests compare with the program."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
METRIC = r"(?:recall@1|recall@5|recall@10|mrr@10|ndcg@10|map@100)"

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


def check_keys(document: dict[str, Any], section: str) -> None:
    """Every key of a JSON document is described in docs/output.md, and every one there printed."""
    described = {key for key in rows(sections(DOCS / "output.md")[section]) if _is_key(key)}
    paths = set(_paths(document))
    unknown = {path for path in paths if not any(_same(path, key) for key in described)}
    empty = tuple(f"{key}." for key, value in document.items() if value is None)
    absent = {
        key
        for key in described
        if not any(_same(path, key) or path.startswith(f"{key}.") for path in paths)
        and not key.startswith(empty)
    }
    assert (unknown, absent) == (set(), set()), f"not described {unknown}, not printed {absent}"


def _is_key(name: str) -> bool:
    """Whether a row is one of a document, and not of the table of error classes."""
    return not name.endswith("Error")


def _paths(node: Any, path: str = "") -> Iterator[str]:
    """Paths of all values in a document; an empty list or object is a value, with a mark."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _paths(value, f"{path}.{key}" if path else key)
    elif isinstance(node, list) and node:
        for value in node:
            yield from _paths(value, f"{path}[]")
    else:
        yield f"{path} {{}}" if node == {} else f"{path} []" if node == [] else path


def _same(path: str, described: str) -> bool:
    """Whether a printed path is the described one, where <name> stands for any key."""
    if path.endswith(" []"):
        wholes = [described[: each.start()] for each in re.finditer(r"\[\]", described)]
        return any(_same(path[:-3], whole) for whole in [described, *wholes])
    if path.endswith(" {}"):
        wholes = [described[: each.start()] for each in re.finditer(r"\.<", described)]
        return any(_same(path[:-3], whole) for whole in wholes)
    parts = re.split(r"(<[^>]+>)", described)
    variable = {"<metric>": METRIC}
    expression = "".join(
        variable.get(part, r"[^\[\]]+") if part.startswith("<") else re.escape(part)
        for part in parts
    )
    return re.fullmatch(expression, path) is not None
