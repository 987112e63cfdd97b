"""List every message that the code can raise, with its hint: read from the source, by class.

The site appends the list to troubleshooting.md, so that its search finds a message by its text.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from xbtmigrate import errors

PACKAGE = Path(errors.__file__).parent
CLASSES = {
    name
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, errors.XbtMigrateError)
}


class Message(NamedTuple):
    """One message as it is written in the code, with … for what varies."""

    kind: str
    text: str
    hint: str


def list_messages() -> list[Message]:
    """Return every message of the package, sorted by class and text."""
    found = set()
    for module in PACKAGE.rglob("*.py"):
        tree = ast.parse(module.read_text("utf-8"))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id in CLASSES and node.args:
                text, *hints = (pattern_of(each) for each in node.args)
                if text.strip("… "):
                    found.add(Message(node.func.id, text, "".join(hints)))
    return sorted(found)


def pattern_of(node: ast.expr) -> str:
    """Return a string of the code with … for each part that is known only at run time."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(pattern_of(part) for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return pattern_of(left) + pattern_of(right)
    return "…"


def table_of_messages() -> Iterator[str]:
    """Yield the lines of the section: a table for each class of error."""
    yield "## Every message"
    messages = list_messages()
    for kind in sorted({each.kind for each in messages}):
        yield from ("", f"### Messages of {kind}", "", "| message | hint |", "|---|---|")
        for each in messages:
            if each.kind == kind:
                yield f"| {_cell(each.text)} | {_cell(each.hint)} |"


def _cell(text: str) -> str:
    # Angle and square brackets would be read as HTML and links.
    for mark in "\\`*_{}[]<>|":
        text = text.replace(mark, f"&#{ord(mark)};")
    return " ".join(text.split())
