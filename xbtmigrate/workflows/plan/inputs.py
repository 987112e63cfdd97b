"""Workflows: what a migration needs besides Qdrant: both models, and the judged queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from xbtmigrate.errors import CollectionError
from xbtmigrate.workflows.evaluate.query_sources import judged_questions
from xbtmigrate.workflows.migration import Migration


def _old_model(migration: Migration) -> None:
    found, stored = migration.old_encoder.dimension, migration.facts.size
    if found != stored:
        raise CollectionError(
            f"the old model makes vectors of {found} dimensions, the stored ones have {stored}",
            "name the model that made the stored vectors in [old_model]",
        )


def _new_model(migration: Migration) -> None:
    _ = migration.new_encoder.dimension


INPUTS: Mapping[str, Callable[[Migration], object]] = {
    "queries": judged_questions,
    "old_model": _old_model,
    "new_model": _new_model,
}
"""Each raises where its input is missing or not usable."""


def require_inputs(migration: Migration) -> None:
    """Refuse, before anything is read or paid for, what would fail for want of an input.

    Raises:
        XbtMigrateError: An input is missing or not usable; says which and what to do.
    """
    for check in INPUTS.values():
        check(migration)
