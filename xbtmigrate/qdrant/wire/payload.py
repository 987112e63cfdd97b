"""Qdrant: the embedded fields of a payload."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any, TypeAlias

from xbtmigrate.errors import ConfigError
from xbtmigrate.types import Modality, content_hash

Payload: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EmbeddedFields:
    """Where the embedded text and the image are in a payload.

    Attributes:
        text: Dotted path ("meta.title"), or a template of them ("{title}. {keywords}").
        image: Dotted path of the image reference.
        stored: Which of the two the stored vectors embed.
    """

    text: str | None
    image: str | None
    stored: Modality

    def __post_init__(self) -> None:
        if self._stored_field() is None:
            raise ConfigError(
                f"the stored vectors embed the {self.stored}, but payload.{self.stored} is not set",
                f"set payload.{self.stored}, or correct old_model.stored",
            )
        for field in (self.text, self.image):
            if field is not None and not all(paths_of(field)):
                raise ConfigError(
                    f"'{field}' is neither a dotted path nor a template of dotted paths",
                    'write "description", "meta.title" or "{title}. {keywords}"',
                )

    def text_of(self, payload: Payload) -> str | None:
        """Render the embedded text; None where every field of it is missing or empty."""
        return None if self.text is None else _rendered(self.text, payload)

    def image_of(self, payload: Payload) -> str | None:
        """Return the image reference, None where it is missing."""
        return None if self.image is None else _rendered(self.image, payload)

    def content_of(self, payload: Payload) -> str | None:
        """Render the field that the stored vectors embed."""
        return self.text_of(payload) if self.stored is Modality.TEXT else self.image_of(payload)

    def hash_of(self, payload: Payload) -> str:
        """Hash the field that the stored vectors embed; "" where it is missing."""
        return content_hash(self.content_of(payload))

    def keys(self) -> list[str]:
        """Return the payload's top-level keys that the fields lie under, quoted for Qdrant."""
        fields = [field for field in (self.text, self.image) if field is not None]
        roots = [path.split(".")[0] for field in fields for path in paths_of(field)]
        return [f'"{root}"' for root in dict.fromkeys(roots)]

    def _stored_field(self) -> str | None:
        return self.text if self.stored is Modality.TEXT else self.image


def paths_of(field: str) -> list[str]:
    """Return the dotted paths of a field; an invalid template gives an empty path."""
    if "{" not in field and "}" not in field:
        return [field.strip()]
    try:
        parts = list(Formatter().parse(field))
    except ValueError:
        return [""]
    paths = [
        "" if form or convert else name for _, name, form, convert in parts if name is not None
    ]
    return paths or [""]


def _rendered(field: str, payload: Payload) -> str | None:
    plain = payload.get(field)
    if isinstance(plain, str) and "." not in field and "{" not in field:
        return plain if plain.strip() else None
    values = [_value(payload, path) for path in paths_of(field)]
    if not any(values):
        return None
    if "{" not in field:
        return values[0]
    literals = [(literal, name is not None) for literal, name, _, _ in Formatter().parse(field)]
    remaining = iter(values)
    return "".join(text + (next(remaining) if slot else "") for text, slot in literals).strip()


def _value(payload: Payload, path: str) -> str:
    return ", ".join(_strings(payload, path.split(".")))


def _strings(node: object, path: Sequence[str]) -> Iterator[str]:
    if isinstance(node, list):
        for each in node:
            yield from _strings(each, path)
    elif path and isinstance(node, Mapping):
        yield from _strings(node.get(path[0]), path[1:])
    elif not path and isinstance(node, str):
        if node.strip():
            yield node
    elif not path and isinstance(node, int | float) and not isinstance(node, bool):
        yield str(node)
