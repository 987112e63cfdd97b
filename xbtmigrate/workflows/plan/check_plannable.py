"""Check that a plan can be made, for `plan` and `doctor`."""

from __future__ import annotations

from xbtmigrate.config import Config
from xbtmigrate.migration.phases import OVER, MigrationRecord
from xbtmigrate.migration.plan import Target
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.qdrant.collection.duplicate_ids import refuse_duplicate_ids
from xbtmigrate.qdrant.journal.rivals import refuse_rivals
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.types import Strategy
from xbtmigrate.workflows.evaluate.check_answers import require_answers
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.plan.inputs import require_inputs
from xbtmigrate.workflows.prerequisites import refuse_impossible
from xbtmigrate.workflows.store import Store
from xbtmigrate.workflows.workspace import read_judged_questions


def check_plannable(store: Store, models: Models) -> tuple[Target, MigrationRecord | None]:
    """Check that a plan is possible, before any point is surveyed or any encoding paid for.

    Returns:
        Where the new vectors will go, and the record of a migration that is over.

    Raises:
        GateError: A migration is under way, or limits of the collection would stop one half-way.
        XbtMigrateError: The collection, the server or an input cannot be used.
    """
    store.refuse_while_under_way(
        "a new plan would orphan the vectors that this migration has written"
    )
    record = store.journal.load()
    _refuse_rivals(store.config, store.connection, store.facts.collection)
    refuse_duplicate_ids(store.connection, store.facts)
    require_inputs(store.facts, models)
    require_answers(store, read_judged_questions(store.config))
    layout = store.layout(
        models.new.dimension, resuming=record is not None and record.phase not in OVER
    )
    # The name of a shadow is known only now, and another migration may be filling it.
    _refuse_rivals(store.config, store.connection, layout.collection)
    chosen = store.config.plan.strategy
    # Limits of strict mode matter only for strategies that write; "auto" may choose one.
    if chosen == "auto" or STRATEGIES[Strategy(chosen)].writes:
        refuse_impossible(store, layout)
    return layout, record


def _refuse_rivals(config: Config, connection: Connection, collection: str) -> None:
    refuse_rivals(connection, config.migration, [collection])
