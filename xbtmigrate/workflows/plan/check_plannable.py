"""Workflows: what has to hold before a plan is made; `plan` and `doctor` call it."""

from __future__ import annotations

from xbtmigrate.migration.phases import OVER, MigrationRecord
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.qdrant.collection.duplicate_ids import refuse_duplicate_ids
from xbtmigrate.qdrant.gallery.layout import LayoutChoice
from xbtmigrate.qdrant.journal.rivals import refuse_rivals
from xbtmigrate.types import Strategy
from xbtmigrate.workflows.migration import Migration
from xbtmigrate.workflows.plan.inputs import require_inputs
from xbtmigrate.workflows.prerequisites import refuse_impossible


def check_plannable(migration: Migration) -> tuple[LayoutChoice, MigrationRecord | None]:
    """See that a plan can be made, before anything is read or paid for.

    Returns:
        Where the new vectors will go, and the record of a migration that is over.

    Raises:
        GateError: A migration is under way, or limits of the collection would stop one half-way.
        XbtMigrateError: The collection, the server or an input cannot be used.
    """
    migration.refuse_while_under_way("a new plan would orphan the vectors it has written")
    record = migration.journal.load()
    _refuse_rivals(migration, migration.facts.collection)
    refuse_duplicate_ids(migration.connection, migration.facts)
    require_inputs(migration)
    layout = migration.layout(resuming=record is not None and record.phase not in OVER)
    _refuse_rivals(migration, layout.collection)
    chosen = migration.config.plan.strategy
    if chosen == "auto" or STRATEGIES[Strategy(chosen)].writes:
        refuse_impossible(migration, layout)
    return layout, record


def _refuse_rivals(migration: Migration, collection: str) -> None:
    refuse_rivals(migration.connection, migration.config.migration, [collection])
