"""Undo a migration before its cutover: remove everything it wrote to the collection."""

from __future__ import annotations

from dataclasses import replace

from xbtmigrate.config import Config
from xbtmigrate.documents.cutover import AbortDocument
from xbtmigrate.errors import GateError, StaleError
from xbtmigrate.migration.phases import TRANSITIONS, Counts, MigrationRecord, Phase
from xbtmigrate.migration.plan import Plan
from xbtmigrate.qdrant.gallery.remove import drop_collection, drop_indexes, drop_vector, strip
from xbtmigrate.qdrant.journal.journal import QdrantJournal
from xbtmigrate.qdrant.journal.kept_hashes import forget_ledger
from xbtmigrate.qdrant.wire.connection import DROP_VECTOR, Connection
from xbtmigrate.qdrant.wire.own_collection import find_shadow_record, forget_shadow
from xbtmigrate.types import Layout
from xbtmigrate.workflows.cutover.route import give_notice, publish, update_switch
from xbtmigrate.workflows.encode_points import Report
from xbtmigrate.workflows.next_step import AFTER_ABORT, next_step
from xbtmigrate.workflows.store import open_connection
from xbtmigrate.workflows.workspace import artefacts_of


def abort(config: Config, *, act: bool, notice: float, report: Report) -> AbortDocument:
    """Undo a migration that is not cut over, or return what would be removed.

    Args:
        config: The settings.
        act: Do it; else only look.
        notice: Seconds between storing the phase in the journal and removing anything.
        report: Called with progress.

    Raises:
        GateError: Nothing was begun, or it is cut over.
        XbtMigrateError: A part failed; the same call goes on from there.
    """
    plan = artefacts_of(config).load_plan()
    # Not `open_store`, which reads the collection: after a killed abort it may be gone.
    with open_connection(config) as connection:
        journal = QdrantJournal(connection, config.migration)
        record = _abortable(journal.load(), plan)
        if act:
            record = journal.acquire(record)
            try:
                # Store the phase, then remove, so that a killed abort is recognised and continues.
                record = record.move_to(Phase.ABORTING)
                journal.save(record)
                give_notice(connection, notice, report)
                _undo(connection, plan, report)
                forget_ledger(connection, plan.migration)
                # ABORTED comes last: until then the same command repeats the removal harmlessly.
                record = _forgotten(update_switch(record, Phase.ABORTED))
                journal.save(record)
            finally:
                journal.release()
            artefacts = artefacts_of(config)
            publish(artefacts, record)
            # Files that belong to these writes. Plan, pairs, projectors and encoded vectors stay.
            for file in (
                artefacts.order_file,
                artefacts.ledger_file,
                artefacts.verification_file,
            ):
                file.unlink(missing_ok=True)
    return {
        "collection": plan.collection.name,
        "removes": _shown(connection, plan),
        "phase": record.phase,
        "status": "aborted" if act else "nothing was removed",
        **(AFTER_ABORT if act else next_step("xbtmigrate abort --yes")),
    }


def _abortable(record: MigrationRecord | None, plan: Plan) -> MigrationRecord:
    if record is None or record.phase is Phase.ABORTED:
        raise GateError("there is no migration to abort", "the collection holds nothing of it")
    if record.phase is not Phase.ABORTING and Phase.ABORTING not in TRANSITIONS[record.phase]:
        over = record.phase is Phase.FINALIZED
        raise GateError(
            f"the migration is {record.phase}",
            "it is over" if over else "`xbtmigrate rollback` goes back first",
        )
    # Another plan may name another shadow or vector, which must not be deleted.
    if record.plan_digest != plan.digest:
        raise StaleError(
            f"the migration is under plan {record.plan_digest[:12]}, the plan here is "
            f"{plan.digest[:12]}",
            "restore that plan.json",
        )
    return record


def _undo(connection: Connection, plan: Plan, report: Report) -> None:
    """Remove the shadow, or the new vectors and the marks; skip what is already gone."""
    target = plan.target
    if target.layout is Layout.SHADOW:
        # Only what is marked as the tool's own is deleted; the mark goes last.
        if find_shadow_record(connection, target.collection) is not None:
            drop_collection(connection, target.collection)
            forget_shadow(connection, target.collection)
        return
    client = connection.client
    if not connection.call(lambda: client.collection_exists(target.collection)):
        return
    # A vector name that the collection was created with stays. Servers before 1.19 cannot remove a
    # name safely (qdrant#9105), so `strip` deletes the values point by point.
    named = target.creates_vector and drop_vector(connection, target.collection, target.vector)
    points = plan.collection.points
    strip(
        connection,
        target.collection,
        [] if named else [target.vector],
        lambda done: report("cleaning up", done, max(points, done)),
    )
    drop_indexes(connection, target.collection)


def _forgotten(record: MigrationRecord) -> MigrationRecord:
    """Return the record without cursor, counts and digests, so that a new run starts at zero."""
    return replace(
        record,
        projector_digest="",
        order_digest="",
        stage=None,
        cursor=None,
        position=0,
        fraction=0.0,
        counts=Counts(),
        seconds=0.0,
        verified_at="",
    )


def _shown(connection: Connection, plan: Plan) -> str:
    target = plan.target
    if target.layout is Layout.SHADOW:
        return f"the collection '{target.collection}'"
    what = f"the vector '{target.vector}' and the payload key _xbtmigrate of every point"
    named = target.creates_vector and connection.at_least(DROP_VECTOR)
    return what + (", and the vector's name" if named else "")
