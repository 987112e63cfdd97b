"""Run `init`: inspect a collection and write a commented configuration."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xbtmigrate import registry
from xbtmigrate.config import read_key
from xbtmigrate.errors import CollectionError
from xbtmigrate.qdrant.collection.facts import Overview, read_overview
from xbtmigrate.qdrant.wire.connect import connect

# Data URLs, and how PNG, JPEG, GIF and WebP (RIFF) begin in base64.
IMAGE_STARTS = ("data:image/", "iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR")
DEEPEST = 16
"""Levels of a payload that are searched for texts."""
IMAGE_ENDS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def describe(
    *,
    url: str,
    collection: str,
    vector: str | None,
    api_key_env: str | None,
    api_key_file: Path | None,
    ca_file: Path | None,
    base: Path,
) -> str:
    """Return the text of a configuration with what was found in the collection.

    Args:
        url: Server, or "path:DIR" relative to `base`.
        collection: Collection to migrate.
        vector: Vector to migrate; None if there is only one.
        api_key_env: Name of the variable that holds the API key.
        api_key_file: File that holds it, relative to `base`.
        ca_file: Certificates to trust, relative to `base`.
        base: Folder the file will be in.

    Raises:
        ConfigError: The API key or the certificates are not there.
        CollectionError: No such collection or vector, or it has to be chosen.
    """
    key = read_key(api_key_env, api_key_file, base)
    trusted = None if ca_file is None else base / ca_file
    address = url
    if url.startswith("path:"):
        # Relative to the file that is written, since that is how it will be read.
        address = f"path:{(base / url.removeprefix('path:')).resolve()}"
    with connect(address, api_key=key, ca_file=trusted) as connection:
        seen = read_overview(connection, collection)
    name = _chosen_vector(seen, collection, vector)
    texts, images = _fields(seen.payloads)
    return "\n".join(
        (
            f"# What xbtmigrate found in {_quoted(collection)}, and what it needs to know. "
            "Every key is\n# described in docs/configuration.md.\n",
            _qdrant_table(url, collection, name, seen, (api_key_env, api_key_file, ca_file)),
            _payload_table(texts, images),
            _further_tables("text" if texts or not images else "image"),
        )
    )


def _qdrant_table(
    url: str,
    collection: str,
    name: str,
    seen: Overview,
    secrets: tuple[str | None, Path | None, Path | None],
) -> str:
    size, distance = seen.vectors[name]
    api_key_env, api_key_file, ca_file = secrets
    return f"""\
[qdrant]
url = {_quoted(url)}
{_value("api_key_env", api_key_env, "QDRANT_API_KEY")}   # the environment variable of the API key
{_value("api_key_file", api_key_file, "key.txt")}         # or the file
{_value("ca_file", ca_file, "ca.pem")}               # certificates to trust
collection = {_quoted(collection)}
vector = {_quoted(name)}            # the old vector: {size}-d, {distance}; "" is the unnamed one
# new_vector = "new"     # name of the new vector
# side_vector = "side"   # another vector that a forward projector may take beside the old one
"""


def _payload_table(texts: Sequence[str], images: Sequence[str]) -> str:
    # The first text field is proposed: the longest texts are most likely what was embedded.
    return f"""\
[payload]                # dotted paths, or templates such as "{{title}}. {{keywords}}"
{_value("text", texts[0] if texts else None, "description")}            # found: {_listed(texts)}
{_value("image", images[0] if images else None, "image")}            # found: {_listed(images)}
# query = "title"        # another text field to make queries from, to measure quality
"""


def _further_tables(stored: str) -> str:
    """Return the tables of the models and the plan, most of which the user has to fill in."""
    encoders = ", ".join(registry.list_names(registry.ENCODERS))
    return f"""\
[old_model]              # the model that made the stored vectors
encoder = "precomputed"  # one of: {encoders}
path = "old.parquet"     # relative to this file
stored = {_quoted(stored)}          # what the stored vectors embed: "text" or "image"

[new_model]              # the model to move to
encoder = "precomputed"
path = "new.parquet"
# distance = "Cosine"    # distance of the new space; that of the old vector by default

[plan]
strategy = "auto"        # auto | keep | bridge | forward | fastfill | full
layout = "auto"          # auto | in_place | shadow
seed = 0
# sample = 2000          # points measured on
# queries = "queries.parquet"   # columns text and relevant (list of point ids): judged queries
# target = 0.95          # share of the new model's quality that is good enough
"""


def _chosen_vector(seen: Overview, collection: str, vector: str | None) -> str:
    names = ", ".join(f"'{name}'" for name in seen.vectors)
    if vector is None and len(seen.vectors) == 1:
        return next(iter(seen.vectors))
    if vector is None or vector not in seen.vectors:
        wrong = "several dense vectors" if vector is None else f"no dense vector '{vector}'"
        raise CollectionError(
            f"'{collection}' has {wrong}", f"choose one with --vector: {names or 'it has none'}"
        )
    return vector


def _fields(payloads: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """Return dotted paths of text and of image fields; longest texts first, identifiers last."""
    values: defaultdict[str, list[str]] = defaultdict(list)
    for payload in payloads:
        for path, value in _strings(payload):
            values[path].append(value)
    images = [path for path, found in values.items() if all(map(_is_image, found))]
    words = {
        path: sum(len(value.split()) for value in found) / len(found)
        for path, found in values.items()
        if path not in images
    }
    return sorted(words, key=lambda path: -words[path]), images


def _strings(
    payload: Mapping[str, Any], prefix: str = "", depth: int = 0
) -> Iterator[tuple[str, str]]:
    """Yield texts with their dotted paths, except for keys that no path can name."""
    for key, value in payload.items():
        # payload.text takes dotted paths and `{field}` templates: such a key cannot be named.
        if key != key.strip() or set(key) & set(".{}") or not key:
            continue
        if isinstance(value, str) and value:
            yield prefix + key, value
        elif isinstance(value, Mapping) and depth < DEEPEST:
            yield from _strings(value, f"{prefix}{key}.", depth + 1)


def _is_image(value: str) -> bool:
    return value.startswith(IMAGE_STARTS) or value.lower().split("?")[0].endswith(IMAGE_ENDS)


def _quoted(text: str) -> str:
    """Write a TOML string, with invisible characters escaped."""
    # A JSON string is also a TOML basic string, except for U+007F.
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(each if each.isprintable() else _escaped(ord(each)) for each in quoted)


def _escaped(code: int) -> str:
    return f"\\u{code:04x}" if code < 2**16 else f"\\U{code:08x}"


def _value(key: str, value: object, example: str) -> str:
    return f"{key} = {_quoted(str(value))}" if value else f'# {key} = "{example}"'


def _listed(fields: Sequence[str]) -> str:
    return ", ".join(map(_quoted, fields[:6])) or "none"
