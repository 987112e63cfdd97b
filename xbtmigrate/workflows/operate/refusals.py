"""Find why the next command would refuse to run, by calling that command's own checks.

`doctor` keeps no second list of reasons: it calls what the commands call before they
begin, so it covers a condition as soon as a command has it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow.compute as pc

from xbtmigrate.config import Config
from xbtmigrate.errors import GateError, XbtMigrateError
from xbtmigrate.migration.phases import Phase
from xbtmigrate.migration.plan import Plan
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.qdrant.collection.facts import CollectionFacts
from xbtmigrate.qdrant.journal.run_control import Control
from xbtmigrate.qdrant.wire.connect import check_writable
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.types import Direction
from xbtmigrate.workflows.backfill.backfill import check_run
from xbtmigrate.workflows.backfill.control import is_running
from xbtmigrate.workflows.backfill.request import BackfillOptions
from xbtmigrate.workflows.cutover.cutover import check_switch
from xbtmigrate.workflows.cutover.finalize import check_unused
from xbtmigrate.workflows.cutover.options import Check, CutoverOptions
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.operate.case import Case, Inconsistency
from xbtmigrate.workflows.plan.check_plannable import check_plannable
from xbtmigrate.workflows.plan.inputs import list_input_checks
from xbtmigrate.workflows.store import Store, store_over
from xbtmigrate.workflows.verify.verify import check_verifiable
from xbtmigrate.workflows.workspace import Workspace

ENDING = (Phase.FINALIZING, Phase.FINALIZED, Phase.ABORTING)
"""Phases in which one of the collections may already be deleted."""
NEXT_VERB = {
    Phase.BACKFILLING: "backfill",
    Phase.PAUSED: "backfill",
    Phase.BACKFILLED: "verify",
    Phase.VERIFIED: "cutover",
    Phase.CUTTING_OVER: "cutover",
    Phase.CUT_OVER: "finalize",
    Phase.ROLLED_BACK: "verify",
}


def find_refusals(case: Case, *, sound: bool) -> Iterator[Inconsistency]:
    """Yield missing inputs, and what the next command would refuse.

    Args:
        case: The migration.
        sound: Whether no other check found anything; a refusal would only repeat it.
    """
    if case.record is not None and case.record.phase in ENDING:
        return
    if case.begun is not None and case.plan is None:
        # The lost plan is already reported; without it, a moved alias would be read as the source.
        return
    try:
        # An unusable collection is a finding, not the end of `doctor`.
        store = store_over(case.config, case.connection)
        models = Models(case.config)
        workspace = Workspace(case.config, models)
    except XbtMigrateError as error:
        yield Inconsistency("unusable", error.message, error.hint)
        return
    # Missing inputs first: a command's checks would fail on the same ones with less detail.
    yield from _unusable_vectors(store, case.plan)
    missing = list(_missing(store.facts, models))
    yield from missing
    verb = _next_verb(case)
    if missing or not sound or verb is None or is_running(case.record):
        return
    try:
        for check in _failing(verb, case, store, models, workspace):
            yield Inconsistency(f"{verb}_refused", f"{check.name}: {check.detail}", check.way_out)
    except XbtMigrateError as error:
        yield Inconsistency(f"{verb}_refused", error.message, error.hint)


def _unusable_vectors(store: Store, plan: Plan | None) -> Iterator[Inconsistency]:
    """Yield a finding if points that the plan lists still have an unusable old vector."""
    named = plan.coverage.examples_unusable if plan is not None else []
    # Only these points are read: checking every vector takes a scan, as `plan` does.
    still = [
        each
        for batch in (store.reader().read({"old"}, ids=named) if named else ())
        for each in batch.filter(pc.is_null(batch["old"]))["id"].to_pylist()
    ]
    if plan is None or not still:
        return
    searched = "write them again with vectors of the old model, so that searches find them"
    if not STRATEGIES[plan.strategy].writes:
        way_out = searched
    elif plan.fraction > 0:
        way_out = f"the backfill re-encodes them; {searched} before the cutover too"
    else:
        way_out = (
            "write them again with vectors of the old model, or they get no new one; "
            'plan.strategy = "fastfill" re-encodes them'
        )
    yield Inconsistency(
        "unusable_vectors",
        f"{plan.coverage.unusable_old:,} points had a vector '{store.facts.vector}' that is not "
        f"finite, zero or of absurd length when the plan was made, and still have one: "
        f"{', '.join(still)}",
        way_out,
    )


def _missing(facts: CollectionFacts, models: Models) -> Iterator[Inconsistency]:
    for name, check in list_input_checks(facts, models).items():
        try:
            check()
        except XbtMigrateError as error:
            yield Inconsistency(f"{name}_unusable", error.message, error.hint)


def _next_verb(case: Case) -> str | None:
    """Return the next command that has checks to run; None where there is none."""
    if case.plan is None:
        return "plan"
    if case.begun is not None:
        return NEXT_VERB.get(case.begun.phase)
    # Before the first run there is no record, so files show how far the migration has come.
    folder = case.artefacts.projector_folder(Direction.FORWARD)
    spec = STRATEGIES[case.plan.strategy]
    return "backfill" if spec.writes and (folder.exists() or not spec.projects) else None


def _check_last_run(config: Config, connection: Connection) -> None:
    """Raise the error that ended the last run, since the next one may hit it again."""
    found = Control(connection, config.migration).read_error()
    if found is not None:
        message, hint = found
        raise GateError(f"the last run ended: {message}", hint)


def _failing(
    verb: str, this: Case, store: Store, models: Models, workspace: Workspace
) -> list[Check]:
    """Run the checks of a command; a cutover lists every condition that fails.

    Raises:
        XbtMigrateError: The command would refuse.
    """
    match verb:
        case "plan":
            check_plannable(store, models)
        case "backfill":
            # `BackfillOptions()` is the command without options: what a user types next.
            check_run(store, models, workspace, BackfillOptions(), this.record)
            check_writable(store.connection, store.facts.collection)
            _check_last_run(store.config, store.connection)
        case "verify":
            check_verifiable(store, models, workspace.artefacts, this.record)
        case "cutover":
            _, _, checks = check_switch(
                store, models, workspace.artefacts, this.record, CutoverOptions()
            )
            return [check for check in checks if not check.passed]
        case "finalize":
            check_unused(store, models, workspace, this.record)
    return []
