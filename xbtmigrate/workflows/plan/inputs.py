"""Check the inputs of a migration besides Qdrant: both models, and the judged queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from xbtmigrate.errors import CollectionError
from xbtmigrate.qdrant.collection.facts import CollectionFacts
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.workspace import read_judged_questions


def _check_old_model(facts: CollectionFacts, models: Models) -> None:
    if not models.has_old:
        return
    found, stored = models.old.dimension, facts.size
    if found != stored:
        raise CollectionError(
            f"the old model makes {found}-d vectors, the stored ones are {stored}-d",
            "name the model that made the stored vectors in [old_model]",
        )


def _check_new_model(models: Models) -> None:
    # Loading the model is the check.
    _ = models.new.dimension


def list_input_checks(facts: CollectionFacts, models: Models) -> Mapping[str, Callable[[], object]]:
    """Return a check for each input, which raises if the input is missing or unusable."""
    return {
        "queries": partial(read_judged_questions, models.config),
        "old_model": partial(_check_old_model, facts, models),
        "new_model": partial(_check_new_model, models),
    }


def require_inputs(facts: CollectionFacts, models: Models) -> None:
    """Raise if an input is missing, before anything is read or paid for.

    Raises:
        XbtMigrateError: An input is missing or not usable; says which and what to do.
    """
    for check in list_input_checks(facts, models).values():
        check()
