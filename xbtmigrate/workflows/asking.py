"""Workflows: where queries come from, the most trustworthy source first."""

from __future__ import annotations

from collections.abc import Iterator

from xbtmigrate.types import Modality
from xbtmigrate.workflows.questions import Questions, excerpts, known_items, read_questions
from xbtmigrate.workflows.sampling import Points, take
from xbtmigrate.workflows.wiring import Migration


def judged_questions(migration: Migration) -> Iterator[Questions]:
    """Yield the configured queries, if there are any."""
    path = migration.config.plan.queries
    if path is not None:
        yield read_questions(migration.config.base / path)


def made_questions(migration: Migration, points: Points) -> Iterator[Questions]:
    """Yield queries made from the points themselves: another field, captions, or excerpts."""
    payload, seed = migration.config.payload, migration.config.plan.seed
    if payload.query is not None:
        found = take(migration.reader(query_field=payload.query), points.ids)
        yield from _unless_empty(known_items(found.ids, found.texts, payload.query))
    if migration.stored is Modality.TEXT:
        yield from _unless_empty(excerpts(points.ids, points.texts, seed))
    elif payload.text is not None:
        yield from _unless_empty(known_items(points.ids, points.texts, payload.text))


def _unless_empty(questions: Questions) -> Iterator[Questions]:
    if len(questions):
        yield questions
