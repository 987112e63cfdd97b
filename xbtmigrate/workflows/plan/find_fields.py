"""Find the fields of payloads that hold texts or images, with a sample of each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from xbtmigrate.qdrant.wire.payload_field import Payload, parse_field, read_json, write_path
from xbtmigrate.workflows.plan.writers import Writer

# Data URLs, and how PNG, JPEG, GIF and WebP (RIFF) begin in base64.
IMAGE_STARTS = ("data:image/", "iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR")
IMAGE_ENDS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
DEEPEST = 16
"""Levels of a payload that are searched for texts."""
ITEMS = 8
"""Items of a list that are searched for texts."""
WORDY = 2.0
"""Least mean number of words of a text; fields of fewer are names, dates or identifiers."""


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of some payloads.

    Attributes:
        texts: Paths of texts with a sample of each, the likeliest to be embedded first.
        images: Paths of image references with a sample of each.
        wordy: Whether one of the texts is more than a name, a date or an identifier.
    """

    texts: Mapping[str, str]
    images: Mapping[str, str]
    wordy: bool


def find_fields(payloads: Sequence[Payload], writer: Writer | None) -> Fields:
    """Find the fields; first what the writer may have embedded, then the wordiest texts."""
    values: defaultdict[str, list[str]] = defaultdict(list)
    for payload in payloads:
        for path, value in _strings(payload):
            values[path].append(value)
    images = {path: held[0] for path, held in values.items() if all(map(_is_image, held))}
    words = {
        path: sum(len(value.split()) for value in held) / len(held)
        for path, held in values.items()
        if path not in images
    }
    likely = {
        field: sample
        for field in (writer.texts if writer else ())
        if (sample := _sample(field, payloads))
    }
    ordered = sorted(words, key=lambda path: -words[path])
    texts = likely | {path: values[path][0] for path in ordered if path not in likely}
    return Fields(texts, images, wordy=bool(likely) or max(words.values(), default=0) >= WORDY)


def _sample(field: str, payloads: Sequence[Payload]) -> str | None:
    parsed = parse_field(field)
    rendered = (parsed.render(payload) for payload in payloads) if parsed else ()
    return next(filter(None, rendered), None)


def _strings(node: object, path: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """Yield the texts in a payload, also in lists and in texts that hold JSON, with their paths."""
    if isinstance(node, str):
        node = read_json(node) or node
    if isinstance(node, Mapping) and len(path) <= DEEPEST:
        for key, value in node.items():
            yield from _strings(value, (*path, key))
    elif isinstance(node, list):
        for each in node[:ITEMS]:
            yield from _strings(each, path)
    # Qdrant cannot select a top-level key that is empty or has a quotation mark.
    elif isinstance(node, str) and node and path and path[0] and '"' not in path[0]:
        yield write_path(path), node


def _is_image(value: str) -> bool:
    return value.startswith(IMAGE_STARTS) or value.lower().split("?")[0].endswith(IMAGE_ENDS)
