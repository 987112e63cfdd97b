"""Switch back to the old side, after carrying back every write since the cutover.

The old vectors were never changed, so they are the same, byte for byte. Only points that an
application wrote since the cutover get an old vector of their present content. A point that cannot
be carried back stops the rollback before anything is switched.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.config import Config
from xbtmigrate.documents.cutover import RollbackDocument
from xbtmigrate.errors import ArtefactError, GateError
from xbtmigrate.migration.phases import MigrationRecord, Phase
from xbtmigrate.migration.point_hashes import PointHashes
from xbtmigrate.qdrant.collection.aliases import list_aliases, move_alias
from xbtmigrate.qdrant.gallery.replicate import CopyResult
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.workflows.backfill.make_loop import load_forward_projector
from xbtmigrate.workflows.backfill.request import load_request
from xbtmigrate.workflows.cutover.cutover import SHOWN
from xbtmigrate.workflows.cutover.late_writes import LateWrites, load_ledger
from xbtmigrate.workflows.cutover.route import (
    Route,
    describe_reader_change,
    find_route,
    move_record,
    publish,
)
from xbtmigrate.workflows.encode_points import Report
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.next_step import NEXT, next_step
from xbtmigrate.workflows.store import open_store
from xbtmigrate.workflows.workspace import Workspace

UNDOABLE = (Phase.CUTTING_OVER, Phase.CUT_OVER, Phase.ROLLING_BACK, Phase.ROLLED_BACK)
FEW = 100
"""Points that may still change when the rollback switches; they are carried back afterwards."""


def rollback(config: Config, *, act: bool, leave_behind: bool, report: Report) -> RollbackDocument:
    """Switch applications back to the old vectors, or return what would be done.

    Args:
        config: The settings.
        act: Do it; else only look.
        leave_behind: Also where points cannot be carried back.
        report: Called with progress.

    Raises:
        GateError: Nothing was cut over, or points cannot be carried back.
        ArtefactError: The ledger is lost.
        XbtMigrateError: A part failed; the same call goes on from there.
    """
    with open_store(config) as store:
        models = Models(config)
        workspace = Workspace(config, models)
        record = _undoable(store.journal.load())
        request = load_request(store, models, workspace.artefacts, record)
        late_writes = LateWrites(
            store,
            models,
            workspace,
            request,
            load_forward_projector(store.facts, models, workspace.artefacts, request),
        )
        ledger = _ledger(config, store.connection, workspace.artefacts, leave_behind=leave_behind)
        report("looking for writes since the cutover", 0, 0)
        # A dry pass finds the points that cannot be carried back while nothing is switched yet.
        found = CopyResult() if ledger is None else late_writes.copy_to_old(ledger, dry=True)
        if not act:
            return _document(store.connection, workspace.artefacts, record, found, act=False)
        if found.left and not leave_behind:
            raise GateError(
                f"{len(found.left):,} point(s) written since the cutover cannot be carried back, "
                f"for example {', '.join(found.left[:3])}: the old model cannot embed them",
                "`xbtmigrate rollback --json` lists them; --leave-behind rolls back without them, "
                "and they stay where they are",
            )
        held = store.journal.acquire(record)
        try:
            record, done = _turn_back(late_writes, held, ledger, report)
        finally:
            store.journal.release()
        return _document(store.connection, workspace.artefacts, record, done, act=True)


def _undoable(record: MigrationRecord | None) -> MigrationRecord:
    if record is not None and record.phase in UNDOABLE:
        return record
    phase = "not begun" if record is None else str(record.phase)
    hint = "`xbtmigrate abort` undoes a migration that was not cut over"
    if record is not None and record.phase in (Phase.FINALIZING, Phase.FINALIZED):
        # FINALIZING counts as gone too: a killed `finalize` may have removed a part.
        hint = "the old vectors are deleted: restore the snapshot of `finalize`, if it made one"
    raise GateError(f"the migration is {phase}: there is nothing to roll back", hint)


def _ledger(
    config: Config, connection: Connection, artefacts: Artefacts, *, leave_behind: bool
) -> PointHashes | None:
    """Load the ledger; None if it is lost and --leave-behind accepts that."""
    try:
        return load_ledger(config, connection, artefacts)
    except ArtefactError:
        if leave_behind:
            return None
        raise


def _turn_back(
    late_writes: LateWrites,
    record: MigrationRecord,
    ledger: PointHashes | None,
    report: Report,
) -> tuple[MigrationRecord, CopyResult]:
    """Carry writes back, switch, and carry back what was written meanwhile."""
    store, models = late_writes.store, late_writes.models
    artefacts, plan, done = late_writes.workspace.artefacts, late_writes.request.plan, CopyResult()
    route = find_route(record) or Route(None, ())
    # Carry first, switch second: searchers that left the new vectors earlier would miss the
    # writes since the cutover. A repeated rollback only carries, since the switch is done.
    if record.phase is not Phase.ROLLED_BACK:
        # The record keeps the switch to the new side, and searchers follow that until ROLLED_BACK.
        record = record.move_to(Phase.ROLLING_BACK)
        store.journal.save(record)
        if ledger is not None:
            report("carrying back", 0, 0)
            # Under steady writes every pass may find something; the rest follows the switch.
            done = late_writes.repeat(partial(late_writes.copy_to_old, ledger), ledger, enough=FEW)
        if route.alias is not None:
            move_alias(store.connection, route.alias, plan.collection.name)
        record = move_record(models, artefacts, plan, record, phase=Phase.ROLLED_BACK, route=route)
        # Applications write to the old side again, so the next cutover needs a new verification.
        record = replace(record, verified_at="")
        store.journal.save(record)
    publish(artefacts, record)
    # Slow writers still wrote to the new side during the switch.
    if ledger is not None:
        report("carrying back late writes", 0, 0)
        done = done.plus(late_writes.repeat(partial(late_writes.copy_to_old, ledger), ledger))
    return record, done


def _document(
    connection: Connection,
    artefacts: Artefacts,
    record: MigrationRecord,
    found: CopyResult,
    *,
    act: bool,
) -> RollbackDocument:
    plan = artefacts.load_plan()
    route = find_route(record) or Route(None, ())
    leading = list_aliases(connection)
    return {
        "readers": describe_reader_change(plan, route.alias, back=True),
        "collection": plan.collection.name,
        "vector": plan.collection.vector,
        "layout": plan.target.layout,
        "alias": route.alias,
        "alias_leads_to": leading.get(route.alias) if route.alias else None,
        "phase": record.phase,
        "status": "rolled back" if record.phase is Phase.ROLLED_BACK else "nothing was switched",
        "carried_back": found.carried,
        "deleted": found.deleted,
        "newer_kept": found.kept,
        "cannot_be_carried": len(found.left),
        "left_behind": found.left if not act else found.left[:SHOWN],
        **(NEXT[record.phase] if act else next_step(_command(found))),
    }


def _command(found: CopyResult) -> str:
    return "xbtmigrate rollback --yes" + (" --leave-behind" if found.left else "")
