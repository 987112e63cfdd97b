"""Write the configuration of a new migration: what was found, what was answered, and comments."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xbtmigrate import registry
from xbtmigrate.config import GONE
from xbtmigrate.types import Distance, Modality
from xbtmigrate.workflows.plan.find_fields import Fields
from xbtmigrate.workflows.plan.known_models import model_named, propose_models
from xbtmigrate.workflows.plan.writers import Writer

ModelTable = Mapping[str, Any]
"""Encoder and options of a model, as a table of the configuration holds them."""
IMAGE_VECTORS = ("image", "img", "picture", "photo", "visual", "clip")
"""Parts of a vector's name that mean an image."""


@dataclass(frozen=True, slots=True)
class Server:
    """How the collection is reached.

    Attributes:
        url: Server, or "path:DIR" relative to `base`.
        api_key_env: Name of the variable that holds the API key.
        api_key_file: File that holds it, relative to `base`.
        ca_file: Certificates to trust, relative to `base`.
        base: Folder of the configuration.
    """

    url: str
    api_key_env: str | None
    api_key_file: Path | None
    ca_file: Path | None
    base: Path


@dataclass(frozen=True, slots=True)
class Found:
    """What a collection shows of itself.

    Attributes:
        collection: Its name as it was given.
        alias_of: The collection that this name is an alias of; None where it is none.
        vectors: Name -> size and distance of each single dense vector, "" for the unnamed one.
        fields: Fields of the payloads that hold texts or images.
        writer: What wrote it; None where its payloads do not show it.
    """

    collection: str
    alias_of: str | None
    vectors: Mapping[str, tuple[int, Distance]]
    fields: Fields
    writer: Writer | None


@dataclass(frozen=True, slots=True)
class Answers:
    """What a collection does not show of itself.

    Attributes:
        vector: The old vector.
        text: Payload path or template of the text; None for none.
        image: Payload path of the image; None for none.
        stored: What the stored vectors embed.
        old: The old model; None while it is not known.
        new: The new model; likewise.
        queries: File of judged queries; None for none.
    """

    vector: str
    text: str | None
    image: str | None
    stored: Modality
    old: ModelTable | None = None
    new: ModelTable | None = None
    queries: str | None = None

    @property
    def old_is_gone(self) -> bool:
        """Whether the old model cannot be run."""
        return self.old is not None and self.old["encoder"] == GONE

    @classmethod
    def guessed(cls, found: Found, vector: str) -> Answers:
        """Return the likeliest answers."""
        fields = found.fields
        text, image = next(iter(fields.texts), None), next(iter(fields.images), None)
        named = any(word in vector.lower() for word in IMAGE_VECTORS)
        # Beside images, a text of single words is more likely a name than a caption.
        embeds_image = image and (named or not fields.wordy)
        stored = Modality.IMAGE if embeds_image else Modality.TEXT
        return cls(vector, text, image, stored)

    def but(self, **changed: Any) -> Answers:
        """Return the answers with some changed; those that are None stay."""
        return replace(self, **{key: each for key, each in changed.items() if each is not None})


def write_config(server: Server, found: Found, answers: Answers) -> str:
    """Return the text of a configuration."""
    return "\n".join(
        (
            f"# What xbtmigrate found in {_quoted(found.collection)}, and what it needs to know. "
            f"Every key is\n# described in docs/configuration.md.\n{_writer_line(found)}",
            _qdrant_table(server, found, answers.vector),
            _payload_table(found, answers),
            _further_tables(server, found, answers),
        )
    )


def _writer_line(found: Found) -> str:
    return f"# Written by {found.writer.name}: {found.writer.sign}.\n" if found.writer else ""


def _qdrant_table(server: Server, found: Found, vector: str) -> str:
    size, distance = found.vectors[vector]
    alias = f"  # an alias of {_quoted(found.alias_of)}" if found.alias_of else ""
    return f"""\
[qdrant]
url = {_quoted(server.url)}
{_value("api_key_env", server.api_key_env, "QDRANT_API_KEY")}   # variable of the API key
{_value("api_key_file", server.api_key_file, "key.txt")}         # or the file
{_value("ca_file", server.ca_file, "ca.pem")}               # certificates to trust
collection = {_quoted(found.collection)}{alias}
vector = {_quoted(vector)}            # the old vector: {size}-d, {distance}; "" is the unnamed one
# new_vector = "new"     # name of the new vector
# side_vector = "side"   # another vector that a forward projector may take beside the old one
"""


def _payload_table(found: Found, answers: Answers) -> str:
    return f"""\
[payload]                # dotted paths, or templates such as "{{title}}. {{keywords}}"
{_value("text", answers.text, "description")}            # found: {_listed(found.fields.texts)}
{_value("image", answers.image, "image")}            # found: {_listed(found.fields.images)}
# query = "title"        # another text field to make queries from, to measure quality
"""


def _further_tables(server: Server, found: Found, answers: Answers) -> str:
    """Return the tables of the models and the plan, which the collection does not show."""
    encoders = ", ".join(registry.list_names(registry.ENCODERS))
    old, new = (
        _model(each or {"encoder": "precomputed", "path": example}, encoders)
        for each, example in (
            (answers.old or model_named(answers.vector), "old.parquet"),
            (answers.new, "new.parquet"),
        )
    )
    size = found.vectors[answers.vector][0]
    proposed = "" if answers.old else _proposed(propose_models(server.base, size, answers.stored))
    return f"""\
[old_model]              # the model that made the stored vectors
{proposed}{old}
stored = {_quoted(answers.stored)}          # what the stored vectors embed: "text" or "image"

[new_model]              # the model to move to
{new}
# distance = "Cosine"    # distance of the new space; that of the old vector by default

[plan]
strategy = "auto"        # auto | keep | bridge | forward | fastfill | full
layout = "auto"          # auto | in_place | shadow
seed = 0
# sample = 2000          # points measured on
{_value("queries", answers.queries, "queries.parquet")}   # judged queries, see docs/judging.md
# target = 0.95          # share of the new model's quality that is good enough
"""


def _proposed(models: Sequence[str]) -> str:
    return f"# vectors of this length: {', '.join(models[:4])}\n" if models else ""


def _model(table: ModelTable, encoders: str) -> str:
    """Write a model's table, with what its first two keys may be."""
    remarks = {"encoder": f"one of: {encoders}", "path": "relative to this file"}
    return "\n".join(
        f"{key} = {_literal(value)}" + (f"  # {remarks[key]}" if key in remarks else "")
        for key, value in table.items()
    )


def _literal(value: object) -> str:
    """Write a TOML value."""
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _quoted(text: str) -> str:
    """Write a TOML string, with invisible characters escaped."""
    # A JSON string is also a TOML basic string, except for U+007F.
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(each if each.isprintable() else _escaped(ord(each)) for each in quoted)


def _escaped(code: int) -> str:
    return f"\\u{code:04x}" if code < 2**16 else f"\\U{code:08x}"


def _value(key: str, value: object, example: str) -> str:
    return f"{key} = {_quoted(str(value))}" if value else f'# {key} = "{example}"'


def _listed(fields: Mapping[str, str]) -> str:
    return ", ".join(map(_quoted, list(fields)[:6])) or "none"
