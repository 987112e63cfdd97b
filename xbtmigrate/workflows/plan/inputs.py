"""Check what a migration needs besides Qdrant: both models, and the judged queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from xbtmigrate.errors import CollectionError
from xbtmigrate.qdrant.collection.facts import CollectionFacts
from xbtmigrate.workflows.evaluate.query_sources import read_judged_questions
from xbtmigrate.workflows.models import Models


def _check_old_model(facts: CollectionFacts, models: Models) -> None:
    found, stored = models.old.dimension, facts.size
    if found != stored:
        raise CollectionError(
            f"the old model makes vectors of {found} dimensions, the stored ones have {stored}",
            "name the model that made the stored vectors in [old_model]",
        )


def _check_new_model(models: Models) -> None:
    # The check is that the model loads.
    _ = models.new.dimension


def list_input_checks(facts: CollectionFacts, models: Models) -> Mapping[str, Callable[[], object]]:
    """Return a check of each input; it raises where the input is missing or not usable."""
    return {
        "queries": partial(read_judged_questions, models.config),
        "old_model": partial(_check_old_model, facts, models),
        "new_model": partial(_check_new_model, models),
    }


def require_inputs(facts: CollectionFacts, models: Models) -> None:
    """Refuse, before anything is read or paid for, what would fail for want of an input.

    Raises:
        XbtMigrateError: An input is missing or not usable; says which and what to do.
    """
    for check in list_input_checks(facts, models).values():
        check()
