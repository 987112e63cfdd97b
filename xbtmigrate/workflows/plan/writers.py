"""Recognise which framework wrote a collection, by its payloads, and what it has embedded."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xbtmigrate.qdrant.wire.payload_field import Payload, read_json, write_path
from xbtmigrate.workflows.plan.known_models import FASTEMBED

_NODE = "_node_content"


@dataclass(frozen=True, slots=True)
class Writer:
    """What wrote a collection.

    Attributes:
        name: The framework.
        sign: What shows it, in words.
        texts: Fields or templates of what it may have embedded, the likeliest first.
    """

    name: str
    sign: str
    texts: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a framework writes its payloads: the keys of each, and the field that it embeds."""

    name: str
    keys: tuple[str, ...]
    text: str
    vector: str = ""


# The first that fits counts, so a layout stands before those that need fewer of its keys.
_LAYOUTS = (
    _Layout("LlamaIndex", (_NODE, "_node_type"), f"{_NODE}.text"),
    _Layout("Dify", ("page_content", "metadata", "group_id"), "page_content"),
    _Layout("LangChain", ("page_content", "metadata"), "page_content"),
    _Layout("Haystack", ("id", "content", "meta"), "content"),
    _Layout("LangChain.js", ("content", "metadata"), "content"),
    _Layout("mem0", ("data", "hash", "created_at"), "data"),
    _Layout("Qdrant's MCP server", ("document", "metadata"), "document", FASTEMBED),
    _Layout("FastEmbed's mixin", ("document",), "document", FASTEMBED),
    _Layout("R2R", ("document_id", "extraction_id", "text"), "text"),
    _Layout("Open WebUI", ("text", "metadata"), "text"),
)


def recognise(payloads: Sequence[Payload], vectors: Collection[str]) -> Writer | None:
    """Return what wrote some payloads; None where they show it of no framework.

    Args:
        payloads: Payloads of some points; those without any are not looked at.
        vectors: Names of the collection's dense vectors.
    """
    held = [payload for payload in payloads if payload]
    for layout in _LAYOUTS if held else ():
        named = [name for name in vectors if name.startswith(layout.vector)]
        if not named or not all(payload.keys() >= {*layout.keys} for payload in held):
            continue
        *first, last = (f"'{key}'" for key in layout.keys)
        keys = f"{', '.join(first)} and {last}" if first else last
        sign = f"every payload seen has the key{'s' if first else ''} {keys}"
        if layout.vector:
            sign += f", and a vector is named '{named[0]}'"
        texts = _node_texts(held) if layout.name == "LlamaIndex" else [layout.text]
        return Writer(layout.name, sign, texts)
    return None


def _node_texts(payloads: Sequence[Payload]) -> list[str]:
    """Return what LlamaIndex embeds: by default the text with its metadata, else the text alone."""
    nodes = [read_json(str(payload[_NODE])) for payload in payloads]
    whole = [node for node in nodes if isinstance(node, Mapping)]
    plain = "text" if all("text" in node for node in whole) else "text_resource.text"
    text = f"{_NODE}.{plain}"
    templates = {_node_template(node, text) for node in whole}
    # Nodes of different metadata were embedded by different templates, of which none fits all.
    return [*dict.fromkeys([*(templates if len(templates) == 1 else ()), text])]


def _node_template(node: Mapping[str, Any], text: str) -> str:
    """Return the template of one node's embedded text, as its own settings make it."""
    shown = [
        key
        for key in node.get("metadata") or {}
        if key not in (node.get("excluded_embed_metadata_keys") or ())
    ]
    if not shown:
        return text
    line = str(node.get("metadata_template") or "{key}: {value}")
    separator = node.get("metadata_separator", node.get("metadata_seperator", "\n"))
    # The payload holds the metadata under keys of its own, too, where reading them parses nothing.
    lines = [
        _fill(line, {"key": _escaped(key), "value": f"{{{write_path([key])}}}"}) for key in shown
    ]
    metadata = _escaped(str(separator)).join(lines)
    whole = str(node.get("text_template") or "{metadata_str}\n\n{content}")
    return _fill(whole, {"metadata_str": metadata, "content": f"{{{text}}}"})


def _fill(template: str, parts: Mapping[str, str]) -> str:
    """Put parts into a template of LlamaIndex, which escapes braces as ours do."""
    return re.sub(f"{{({'|'.join(parts)})}}", lambda found: parts[found[1]], template)


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
