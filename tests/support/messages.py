"""What the code prints where something is wrong, read from its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import xbtmigrate
from xbtmigrate.workflows.operate.refusals import NEXT_VERB
from xbtmigrate.workflows.plan.inputs import list_input_checks

PACKAGE = Path(xbtmigrate.__file__).parent
FINDINGS = PACKAGE / "workflows" / "operate"


class Finding(NamedTuple):
    """One finding of `doctor`.

    Attributes:
        name: Its name.
        text: The longest part of its message that never varies, "" where it repeats an error.
        fixable: Whether `doctor --yes` corrects it.
    """

    name: str
    text: str
    fixable: bool


def findings() -> list[Finding]:
    """Return every finding that `doctor` can report."""
    found: list[Finding] = []
    for module in sorted(FINDINGS.glob("*.py")):
        for call in _calls(module, "Inconsistency"):
            name, message, *rest = call.args
            fixable = len(rest) > 1 or any(key.arg == "fix" for key in call.keywords)
            fixable |= any(isinstance(each, ast.Starred) for each in rest)
            text = max(constants_of(message), key=len, default="").strip(" :'")
            found += [Finding(each, text, fixable) for each in _names(name)]
    assert len(found) > 20
    return found


def _names(node: ast.expr) -> list[str]:
    """Return the names that an expression can have: written, or made from a table's keys."""
    match node:
        case ast.Constant(value=str(name)):
            return [name]
        case ast.JoinedStr(values=[ast.FormattedValue(value=ast.Name(id="verb")), _]):
            return [f"{verb}_refused" for verb in sorted({"plan", *NEXT_VERB.values()})]
        case ast.JoinedStr(values=[ast.FormattedValue(value=ast.Name(id="name")), _]):
            return [f"{name}_unusable" for name in _input_names()]
    raise AssertionError(f"a name that cannot be read: {ast.unparse(node)}")


def _input_names() -> list[str]:
    # The checks are only listed here, not called, so nothing of a migration is needed.
    nothing: Any = SimpleNamespace(config=None)
    return list(list_input_checks(nothing, nothing))


def constants_of(node: ast.expr) -> Iterator[str]:
    """Yield the parts of a string expression that never vary."""
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield each.value


@cache
def written_texts() -> frozenset[str]:
    """Return every string of the package, those between the values of an f-string too."""
    found = set()
    for module in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return frozenset(found)


def _calls(module: Path, function: str) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == function:
            yield node
