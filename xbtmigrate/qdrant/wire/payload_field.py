"""Read a text from a payload: by a dotted path, or by a template of dotted paths."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import orjson

Payload: TypeAlias = Mapping[str, Any]
Path: TypeAlias = tuple[str, ...]
"""Keys of a payload, from the top down."""

_QUOTED = r'"(?:[^"\\]|\\.)*"'
# One key of a path: a JSON string, or plain without white space at its ends; then a dot or the end.
_STEP = re.compile(rf'\s*(?:({_QUOTED})|([^\s."{{}}][^.{{}}]*?))\s*(?:(\.)|$)')
_TEMPLATE = re.compile(rf'(\{{\{{|\}}\}}|[^{{}}])|\{{((?:{_QUOTED}|[^"{{}}!:])*)\}}')
_PLAIN = re.compile(r"""[^\s."'{}:!](?:[^."{}:!]*[^\s."{}:!])?""")


@dataclass(frozen=True, slots=True)
class PayloadField:
    """Where a text is in a payload.

    A path goes through lists, and into texts that hold JSON. Several values are joined by ", ".

    Attributes:
        paths: The paths, one for each place of the template.
        literals: The text before each of them, and after the last; None for a path alone.
    """

    paths: tuple[Path, ...]
    literals: tuple[str, ...] | None = None

    def render(self, payload: Payload) -> str | None:
        """Return the text; None where every value is missing or empty."""
        # The common case, a text under a top-level key, takes a third of the time so.
        plain = payload.get(self.paths[0][0])
        if self.literals is None and len(self.paths[0]) == 1 and isinstance(plain, str):
            return plain if plain.strip() else None
        values = [", ".join(_texts_at(payload, path)) for path in self.paths]
        # One present value is enough; the literals of a template alone are not content.
        if not any(values):
            return None
        if self.literals is None:
            return values[0]
        pairs = zip(self.literals, [*values, ""], strict=True)
        return "".join(literal + value for literal, value in pairs).strip()


@lru_cache(maxsize=64)
def parse_field(field: str) -> PayloadField | None:
    """Parse "meta.title", or a template such as "{title}. {keywords}"; None where it is neither.

    A key that holds dots or braces is written as a JSON string, as in `"a.b".c`.
    """
    if (path := _parse_path(field)) is not None:
        return PayloadField((path,))
    paths: list[Path] = []
    literals, end = [""], 0
    for token in _TEMPLATE.finditer(field):
        # A gap between two tokens is something that is no token.
        if token.start() != end:
            return None
        end = token.end()
        literal, inner = token.groups()
        if literal is not None:
            literals[-1] += literal[0]
            continue
        if (path := _parse_path(inner)) is None:
            return None
        paths.append(path)
        literals.append("")
    whole = end == len(field) and paths
    return PayloadField(tuple(paths), tuple(literals)) if whole else None


def write_path(path: Sequence[str]) -> str:
    """Write a path so that `parse_field` reads it, alone or in a template."""
    return ".".join(key if _PLAIN.fullmatch(key) else json.dumps(key) for key in path)


def _parse_path(text: str) -> Path | None:
    keys, end = [], 0
    while found := _STEP.match(text, end):
        quoted, plain, dot = found.groups()
        try:
            keys.append(json.loads(quoted) if quoted else plain)
        except ValueError:
            return None
        if not dot:
            return tuple(keys)
        end = found.end()
    return None


def _texts_at(node: object, path: Sequence[str]) -> Iterator[str]:
    if isinstance(node, list):
        for each in node:
            yield from _texts_at(each, path)
    elif path and isinstance(node, Mapping):
        yield from _texts_at(node.get(path[0]), path[1:])
    elif path and isinstance(node, str):
        yield from _texts_at(read_json(node), path)
    elif isinstance(node, str):
        if node.strip():
            yield node
    # In Python a bool is an int, but it is not content to embed.
    elif not path and isinstance(node, int | float) and not isinstance(node, bool):
        yield str(node)


def read_json(text: str) -> Mapping[str, Any] | list[Any] | None:
    """Return the object or list that a text holds as JSON; None where it holds something else."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        found: Mapping[str, Any] | list[Any] = orjson.loads(text)
    except ValueError:
        return None
    return found
