"""Parse `init`: inspect a collection and write a commented configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption
from xbtmigrate.cli.parsers import parse_model
from xbtmigrate.errors import ConfigError
from xbtmigrate.types import Modality

if TYPE_CHECKING:
    from xbtmigrate.documents.plan import InitDocument
    from xbtmigrate.workflows.plan.write_config import Answers, Found, Server

ModelOption: TypeAlias = Annotated[
    Any,
    typer.Option(
        parser=parse_model,
        metavar="MODEL",
        help="An encoder with its options, such as 'precomputed path=new.parquet'; it is tried.",
    ),
]

CollectionOption: TypeAlias = Annotated[
    str | None, typer.Option(help="Collection to migrate, or its alias.")
]
VectorOption: TypeAlias = Annotated[
    str | None, typer.Option(help="Name of the vector to migrate; the only one by default.")
]
KeyVariableOption: TypeAlias = Annotated[
    str | None, typer.Option(help="Environment variable that holds the API key.")
]
KeyFileOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="File with the API key, relative to the configuration.")
]
CertificatesOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="PEM file of certificates to trust, relative to the configuration."),
]
TextOption: TypeAlias = Annotated[
    str | None, typer.Option(help="Payload field, or template, of the embedded text.")
]
StoredOption: TypeAlias = Annotated[
    Modality | None, typer.Option(metavar="text|image", help="What the stored vectors embed.")
]
QueriesOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="FILE", help="Judged queries, beside the configuration.")
]


def init(
    collection: CollectionOption = None,
    url: Annotated[
        str, typer.Option(help='Server, or "path:DIR" for an embedded database.')
    ] = "http://127.0.0.1:6333",
    vector: VectorOption = None,
    api_key_env: KeyVariableOption = None,
    api_key_file: KeyFileOption = None,
    ca_file: CertificatesOption = None,
    text: TextOption = None,
    image: Annotated[str | None, typer.Option(help="Payload field of the image.")] = None,
    stored: StoredOption = None,
    old_model: ModelOption = None,
    new_model: ModelOption = None,
    queries: QueriesOption = None,
    config: ConfigOption = CONFIG,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    json: JsonOption = False,
) -> None:
    """Inspect a collection and write a commented configuration with what was found.

    At a terminal it asks for what it cannot see. Each model is tried on a few points at once.
    """
    from xbtmigrate.workflows.plan.init import choose_vector, look, require_fields
    from xbtmigrate.workflows.plan.write_config import Answers, Server, write_config

    # Before the server is read: a refusal needs no connection.
    if config.exists() and not force:
        raise ConfigError(f"{config} exists", "give --force to overwrite it, or another --config")
    # Paths in a configuration are relative to its folder.
    server = Server(url, api_key_env, api_key_file, ca_file, base=config.parent)
    asks = not json and _can_ask()
    found = look(server, collection or _collection(server, asks=asks))
    named = text or image or stored
    if named:
        # What is said needs no guess, and is not replaced by one.
        found = replace(found, writer=None)
    else:
        require_fields(found)
    if asks and vector is None:
        vector = _vector(found)
    answers = Answers.guessed(found, choose_vector(found, vector)).but(
        text=text, image=image, stored=stored, old=old_model, new=new_model, queries=queries
    )
    answers = _try_given(server, found, answers)
    if not json and found.writer:
        render.say(f"Written by {found.writer.name}: {found.writer.sign}.")
    if asks:
        answers = _ask(server, found, answers, fields=not named)
    written = write_config(server, found, answers)
    config.write_text(written, "utf-8")
    _show(config, written, found, answers, json=json)


def _can_ask() -> bool:
    from xbtmigrate.cli.ask import can_ask

    return can_ask()


def _collection(server: Server, *, asks: bool) -> str:
    if not asks:
        raise ConfigError("--collection is missing", "name the collection to migrate")
    from xbtmigrate.cli.ask import choose
    from xbtmigrate.workflows.plan.init import find_collections

    names = find_collections(server)
    if not names:
        raise ConfigError(f"there is no collection at {server.url}", "give another --url")
    return choose("Which collection?", names)


def _vector(found: Found) -> str | None:
    """Let one of several vectors be chosen; None where there is nothing to choose from."""
    from xbtmigrate.cli.ask import choose

    if len(found.vectors) < 2:
        return None
    rows = {
        f"'{name}', {size} numbers, {distance}": name
        for name, (size, distance) in found.vectors.items()
    }
    return rows[choose("Which vector?", list(rows))]


def _try_given(server: Server, found: Found, answers: Answers) -> Answers:
    """Try what was given by options.

    Returns:
        The answers, with the text that the old model has embedded.

    Raises:
        GateError: The old model did not make the stored vectors.
        XbtMigrateError: A model or the file of queries cannot be used.
    """
    from xbtmigrate.workflows.plan.init import check_queries, require_old_model, try_new_model

    if answers.old is not None:
        answers = require_old_model(server, found, answers)
    if answers.new is not None:
        try_new_model(server, found, answers)
    if answers.queries is not None:
        check_queries(server, answers.queries)
    return answers


def _ask(server: Server, found: Found, answers: Answers, *, fields: bool) -> Answers:
    from xbtmigrate.cli.ask import ask_fields, ask_models, ask_queries

    if found.alias_of:
        render.say(f"'{found.collection}' is an alias of '{found.alias_of}'.")
    if fields:
        answers = ask_fields(found, answers)
    return ask_queries(server, found, ask_models(server, found, answers))


def _show(config: Path, text: str, found: Found, answers: Answers, *, json: bool) -> None:
    from xbtmigrate.cli.ask import TEMPLATE

    note, writer = None, found.writer
    if answers.queries == TEMPLATE:
        note = f"Write what your users would type into {config.parent / TEMPLATE} first."
    if answers.old is None or answers.new is None:
        note = f"Fill in the two models in {config} first."
    written: InitDocument = {
        "config": str(config),
        "text": text,
        "writer": {"name": writer.name, "sign": writer.sign} if writer else None,
        "next": "xbtmigrate plan",
        "next_note": note,
    }
    if json:
        render.document(written)
        return
    render.say(f"Wrote {config}.")
    render.next_step(written)
