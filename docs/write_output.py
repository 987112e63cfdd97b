"""Write the sections of output.md that describe a document: `make docs`.

Every section whose heading names documents of `xbtmigrate.documents.catalogue` is replaced, from
the types' docstrings. The rest of the page is written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xbtmigrate.documents.catalogue import DOCUMENTS, schema_of

PAGE = Path(__file__).with_name("output.md")


def rewritten(page: str) -> str:
    """Return the page with the sections of all documents made anew."""
    first, *rest = re.split(r"^(#{2,4} .+\n)", page, flags=re.MULTILINE)
    sections = [
        heading + (_section(names[0]) if set(names) <= DOCUMENTS.keys() else text)
        for heading, text in zip(rest[::2], rest[1::2], strict=True)
        if (names := heading.strip("# \n").split(", "))
    ]
    return "".join([first, *sections]).rstrip("\n") + "\n"


def _section(name: str) -> str:
    schema = schema_of(name)
    lines = (f"| `{key}` | {kind} | {meaning} |" for key, kind, meaning in _rows(schema))
    head = ["", schema["description"], "", "| key | type | meaning |", "|---|---|---|"]
    return "\n".join([*head, *lines, "", ""])


def _rows(schema: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield key, type and meaning of each key, an object's own keys below it."""
    known: list[tuple[str, dict[str, Any]]] = [("the document itself", schema["properties"])]

    def below(properties: dict[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
        for name, part in properties.items():
            suffix, kinds, inner = _unwrapped(schema, part)
            key, meaning = path + name + suffix, part["description"]
            # A type that stands above already is referred to.
            like = [place for place, keys in known if inner and inner.items() <= keys.items()]
            if like:
                meaning += f" Its keys are those of {like[0]}."
            if names := _names(schema, part):
                meaning += f" Keys: {names}."
            yield key, _listed(kinds), meaning
            if inner and not like:
                known.append((f"`{key}`", inner))
                yield from below(inner, f"{key}.")

    return below(schema["properties"], "")


def _unwrapped(
    schema: dict[str, Any], part: dict[str, Any]
) -> tuple[str, list[str], dict[str, Any]]:
    """Return what follows the key ("[]" for a list, ".<key>" for a map), types, and inner keys."""
    part = _resolved(schema, part)
    if "anyOf" in part:
        found = [_unwrapped(schema, each) for each in part["anyOf"]]
        inner = {key: each for _, _, keys in found for key, each in keys.items()}
        kinds = [kind for _, kinds, _ in found for kind in kinds]
        return max(suffix for suffix, _, _ in found), kinds, inner
    if "items" in part:
        suffix, kinds, inner = _unwrapped(schema, part["items"])
        return "[]" + suffix, kinds, inner
    if isinstance(part.get("additionalProperties"), dict):
        suffix, kinds, inner = _unwrapped(schema, part["additionalProperties"])
        return ".<key>" + suffix, kinds, inner
    return "", _values(part) or [part.get("type", "any")], part.get("properties", {})


def _resolved(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in part:
        return part
    return schema["$defs"][part["$ref"].rpartition("/")[2]]


def _values(part: dict[str, Any]) -> list[str]:
    return [f"`{value}`" for value in part.get("enum", [part["const"]] if "const" in part else [])]


def _names(schema: dict[str, Any], part: dict[str, Any]) -> str:
    """Return the keys that a map can have, where they are known."""
    return _listed(_values(_resolved(schema, part.get("propertyNames", {}))))


def _listed(words: list[str]) -> str:
    *others, last = dict.fromkeys(words) or [""]
    return f"{', '.join(others)} or {last}" if others else last


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text("utf-8")), "utf-8")
