"""Every write of points passes through one leader, or replicas may keep different versions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import xbtmigrate

WRITES = {
    "upsert",
    "set_payload",
    "overwrite_payload",
    "delete_payload",
    "update_vectors",
    "delete_vectors",
    "delete",
    "batch_update_points",
}
PACKAGE = Path(xbtmigrate.__file__).parent / "qdrant"


def writes() -> Iterator[tuple[str, set[str]]]:
    """Calls of the client that write points: where they are, and the options they give."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                options = {each.arg or "" for each in node.keywords}
                if node.func.attr in WRITES and "wait" in options:
                    yield f"{path.name}:{node.lineno}", options


def test_every_write_of_points_names_its_ordering():
    found = dict(writes())
    assert len(found) > 12
    assert [place for place, options in found.items() if "ordering" not in options] == []
