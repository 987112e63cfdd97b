"""Run `init`: look at a collection, and try the answers that it does not give itself."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xbtmigrate.config import Config, PlanSection, check_config, read_key
from xbtmigrate.errors import CollectionError, EncoderError
from xbtmigrate.evaluation.query_files import read_questions
from xbtmigrate.migration.plan import ModelMatch
from xbtmigrate.qdrant.collection.aliases import list_aliases
from xbtmigrate.qdrant.collection.facts import list_collections
from xbtmigrate.qdrant.collection.overview import read_overview
from xbtmigrate.qdrant.wire.connect import connect
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.own_collection import JOURNAL
from xbtmigrate.workflows.encode_points import encode_readable
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.plan.find_fields import find_fields
from xbtmigrate.workflows.plan.inputs import list_input_checks
from xbtmigrate.workflows.plan.judging_template import ROWS, write_template
from xbtmigrate.workflows.plan.model_match import EXACT, match_old_model, require_match
from xbtmigrate.workflows.plan.write_config import Answers, Found, Server, write_config
from xbtmigrate.workflows.plan.writers import recognise
from xbtmigrate.workflows.points import Points, take
from xbtmigrate.workflows.store import Store, open_store

TRIED = 8
"""Points that a model is tried on: a service may charge for each."""


def find_collections(server: Server) -> list[str]:
    """Return the names of all collections and aliases, without the tool's own."""
    with _connected(server) as connection:
        names = {*list_collections(connection), *list_aliases(connection)} - {JOURNAL}
    return sorted(names)


def look(server: Server, collection: str) -> Found:
    """Return what a collection shows of itself.

    Raises:
        ConfigError: The API key or the certificates are not there.
        CollectionError: There is no such collection.
    """
    with _connected(server) as connection:
        seen = read_overview(connection, collection)
        alias_of = list_aliases(connection).get(collection)
    writer = recognise(seen.payloads, seen.vectors)
    fields = find_fields(seen.payloads, writer)
    return Found(collection, alias_of, seen.vectors, fields, writer)


def require_fields(found: Found) -> None:
    """Refuse a collection whose payloads hold nothing that a model could embed.

    Raises:
        CollectionError: They hold neither texts nor images.
    """
    if not found.fields.texts and not found.fields.images:
        raise CollectionError(
            f"the payloads of '{found.collection}' hold no text and no image, so no model can "
            "embed them again",
            "what keeps its texts elsewhere, as txtai does, needs them in a payload: write them "
            'there with set_payload, for example under "text", or name the field with --text',
        )


def choose_vector(found: Found, vector: str | None) -> str:
    """Return the vector to migrate.

    Raises:
        CollectionError: There is none of this name, or it has to be chosen.
    """
    names = ", ".join(f"'{name}'" for name in found.vectors)
    if vector is None and len(found.vectors) == 1:
        return next(iter(found.vectors))
    if vector is None or vector not in found.vectors:
        wrong = "several dense vectors" if vector is None else f"no dense vector '{vector}'"
        raise CollectionError(
            f"'{found.collection}' has {wrong}",
            f"choose one with --vector: {names or 'it has none'}",
        )
    return vector


def try_old_model(server: Server, found: Found, answers: Answers) -> tuple[Answers, ModelMatch]:
    """Embed a few points by the old model, and compare them with the stored vectors.

    Where the writer of the collection may have embedded one of several texts, the one that the
    stored vectors match best is taken.

    Returns:
        The answers with that text, and how it matches.

    Raises:
        XbtMigrateError: The model cannot be loaded, embeds none of them, or has another length.
    """
    texts = found.writer.texts if found.writer else ()
    best, failed = None, None
    for text in texts if answers.text in texts else (answers.text,):
        tried = answers.but(text=text)
        try:
            match = _match(server, found, tried)
        # A model that knows the vectors of given texts alone has none of the other text.
        except EncoderError as error:
            failed = failed or error
            continue
        cosine = match.median_cosine[answers.stored.value]
        if best is None or cosine > best[1].median_cosine[answers.stored.value]:
            best = tried, match
        if cosine >= EXACT:
            break
    if best is None:
        assert failed is not None
        raise failed
    return best


def _match(server: Server, found: Found, answers: Answers) -> ModelMatch:
    config = _config(server, found, answers)
    with open_store(config) as store:
        models = Models(config)
        list_input_checks(store.facts, models)["old_model"]()
        points = _some(store, TRIED)
        threshold, distance = config.plan.old_model_match, store.facts.distance
        return match_old_model(points, models.old, models.stored, threshold, distance)


def try_new_model(server: Server, found: Found, answers: Answers) -> int:
    """Embed one point by the new model; returns the length of its vector.

    Raises:
        XbtMigrateError: The model cannot be loaded, or cannot embed.
    """
    config = _config(server, found, answers)
    with open_store(config) as store:
        models, points = Models(config), _some(store, 1)
        encode_readable(models.new, points.content(models.stored), models.stored, ids=points.ids)
        return models.new.dimension


def require_old_model(server: Server, found: Found, answers: Answers) -> Answers:
    """Refuse an old model that did not make the stored vectors; one that is gone is not tried.

    Returns:
        The answers, with the text that it has embedded.

    Raises:
        GateError: It did not, by a few points.
        XbtMigrateError: The model cannot be loaded, embeds none of them, or has another length.
    """
    if answers.old_is_gone:
        return answers
    threshold = PlanSection().old_model_match
    answers, match = try_old_model(server, found, answers)
    require_match(match, answers.stored, threshold)
    return answers


def check_queries(server: Server, name: str) -> None:
    """Check a file of judged queries.

    Raises:
        ConfigError: It is not usable.
    """
    read_questions(server.base / name)


def offer_template(server: Server, found: Found, answers: Answers, path: Path) -> None:
    """Write a file in which judged queries about points of the collection can be written."""
    with open_store(_config(server, found, answers)) as store:
        write_template(path, _some(store, ROWS), answers.stored)


def _some(store: Store, count: int) -> Points:
    """Read some points with their content and old vectors."""
    first = next(store.reader().read({"source"}))["id"].to_pylist()
    points = take(store.reader(), first)
    return points.rows(range(min(count, len(points))))


def _config(server: Server, found: Found, answers: Answers) -> Config:
    raw = tomllib.loads(write_config(server, found, answers))
    return check_config(raw, server.base / "the answers")


@contextmanager
def _connected(server: Server) -> Iterator[Connection]:
    key = read_key(server.api_key_env, server.api_key_file, server.base)
    trusted = None if server.ca_file is None else server.base / server.ca_file
    address = server.url
    if address.startswith("path:"):
        # Relative to the file that is written, since that is how it will be read.
        address = f"path:{(server.base / address.removeprefix('path:')).resolve()}"
    with connect(address, api_key=key, ca_file=trusted) as connection:
        yield connection
