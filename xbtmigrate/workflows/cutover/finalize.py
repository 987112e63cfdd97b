"""Delete the old side for good, and remove the tool's marks from the points."""

from __future__ import annotations

from dataclasses import dataclass

from xbtmigrate.config import Config
from xbtmigrate.documents.cutover import FinalizeDocument
from xbtmigrate.errors import ConfigError, GateError, StaleError
from xbtmigrate.migration.phases import MigrationRecord, Phase
from xbtmigrate.migration.plan import Plan
from xbtmigrate.migration.point_hashes import PointHashes
from xbtmigrate.migration.switch import Switch
from xbtmigrate.qdrant.collection.aliases import list_aliases
from xbtmigrate.qdrant.collection.health import find_health_problems
from xbtmigrate.qdrant.collection.snapshots import take_snapshot
from xbtmigrate.qdrant.gallery.remove import drop_collection, drop_indexes, drop_vector, strip
from xbtmigrate.qdrant.gallery.replicate import NAMED, CopyResult
from xbtmigrate.qdrant.journal.journal import QdrantJournal
from xbtmigrate.qdrant.journal.kept_hashes import forget_ledger
from xbtmigrate.qdrant.journal.published import withdraw
from xbtmigrate.qdrant.journal.rivals import find_finished
from xbtmigrate.qdrant.journal.run_control import Control
from xbtmigrate.qdrant.wire.connection import DROP_VECTOR, Connection
from xbtmigrate.qdrant.wire.own_collection import forget_shadow
from xbtmigrate.types import Layout
from xbtmigrate.workflows.backfill.make_loop import load_forward_projector
from xbtmigrate.workflows.backfill.request import load_request
from xbtmigrate.workflows.cutover.afterwards import (
    data_place,
    restore_command,
    settings_after,
    snapshot_place,
)
from xbtmigrate.workflows.cutover.late_writes import LateWrites, load_ledger
from xbtmigrate.workflows.cutover.route import give_notice, publish, update_switch
from xbtmigrate.workflows.encode_points import Report
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.next_step import AFTER_FINALIZE, next_step
from xbtmigrate.workflows.store import Store, open_connection, store_over
from xbtmigrate.workflows.workspace import Workspace, artefacts_of

LOOKS = 3
"""Most checks for points that were written to the old side; one that finds none is enough."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What is removed.

    Attributes:
        plan: The plan.
        connection: The open Qdrant.
    """

    plan: Plan
    connection: Connection

    @property
    def shadow(self) -> bool:
        """Whether the old side is a separate collection."""
        return self.plan.target.layout is Layout.SHADOW

    @property
    def shown(self) -> str:
        """Describe what is deleted for good."""
        if self.shadow:
            return f"the collection '{self.plan.collection.name}'"
        old = f"the vector '{self.plan.collection.vector}' of every point"
        if self.connection.at_least(DROP_VECTOR):
            return old
        return f"{old}; its name stays, because servers before 1.19 cannot remove one safely"

    def run(self, report: Report) -> int:
        """Remove it and return the number of points; skips what is already gone."""
        plan, connection, points = self.plan, self.connection, self.plan.collection.points
        # Every step skips what is gone, so a killed `finalize` can run all of them again.
        vectors: list[str] = []
        if self.shadow:
            drop_collection(connection, plan.collection.name)
        elif not drop_vector(connection, plan.collection.name, plan.collection.vector):
            vectors = [plan.collection.vector]
        done = strip(
            connection,
            plan.target.collection,
            vectors,
            lambda count: report("cleaning up", count, max(points, count)),
        )
        drop_indexes(connection, plan.target.collection)
        forget_shadow(connection, plan.target.collection)
        forget_ledger(connection, plan.migration)
        return done


def finalize(
    config: Config, *, confirm: str | None, snapshot: bool, notice: float, report: Report
) -> FinalizeDocument:
    """Delete the old side, or return what would be deleted.

    Args:
        config: The settings.
        confirm: Name of the collection as the user knows it, its real name or the configured
            alias; None only to look.
        snapshot: Whether the server stores a snapshot of the old side first.
        notice: Seconds between storing the phase in the journal and removing anything.
        report: Called with progress.

    Raises:
        ConfigError: `confirm` is another name.
        GateError: The migration is not cut over, or the old side is still used.
        UnsupportedError: `snapshot` is set where the server makes none.
        XbtMigrateError: A part failed; the same call goes on from there.
    """
    plan = artefacts_of(config).load_plan()
    _check_name(confirm, config, plan)
    with open_connection(config) as connection:
        journal = QdrantJournal(connection, config.migration)
        record = _finalizable(journal.load(), plan)
        removal = Removal(plan, connection)
        # Once the removal has begun, part of a side may be gone: nothing can be compared.
        if record.phase is Phase.CUT_OVER:
            models = Models(config)
            check_unused(store_over(config, connection), models, Workspace(config, models), record)
        if confirm is None:
            return _document(removal, config, record, None)
        record = journal.acquire(record)
        stored = None
        try:
            if record.phase is Phase.CUT_OVER:
                # Snapshot before the phase: if it fails, the migration can still be rolled back.
                stored = take_snapshot(connection, plan.collection.name) if snapshot else None
                record = record.move_to(Phase.FINALIZING)
                journal.save(record)
            # Applications read the journal every few seconds; they stop using the old side now.
            give_notice(connection, notice, report)
            removal.run(report)
            _forget_earlier(connection, plan)
            Control(connection, config.migration).forget()
            record = update_switch(record, Phase.FINALIZED)
            journal.save(record)
        finally:
            journal.release()
    publish(artefacts_of(config), record)
    return _document(removal, config, record, stored)


def _forget_earlier(connection: Connection, plan: Plan) -> None:
    """Delete what earlier migrations published: the vectors that it served are gone."""
    for migration in find_finished(connection, plan.migration, plan.collections):
        withdraw(connection, migration)


def _check_name(confirm: str | None, config: Config, plan: Plan) -> None:
    """Accept the name of the collection or of its alias: users of an alias may not know the other.

    Raises:
        ConfigError: It is neither.
    """
    names = dict.fromkeys((config.qdrant.collection, plan.collection.name))
    if confirm is not None and confirm not in names:
        raise ConfigError(
            f"'{confirm}' is not the name of the collection", f"type {' or '.join(names)}"
        )


def _finalizable(record: MigrationRecord | None, plan: Plan) -> MigrationRecord:
    if record is None or record.phase not in (Phase.CUT_OVER, Phase.FINALIZING):
        phase = "not begun" if record is None else str(record.phase)
        raise GateError(f"the migration is {phase}, not cut over", "see `xbtmigrate status`")
    if record.plan_digest != plan.digest:
        raise StaleError(
            f"the migration was cut over under plan {record.plan_digest[:12]}, the plan here is "
            f"{plan.digest[:12]}",
            "restore that plan.json",
        )
    return record


def check_unused(
    store: Store, models: Models, workspace: Workspace, record: MigrationRecord | None
) -> None:
    """Raise if an alias or a late write still needs the old side, or the server is not healthy.

    Raises:
        GateError: Something does.
    """
    assert record is not None
    connection = store.connection
    request = load_request(store, models, workspace.artefacts, record)
    plan, switch = request.plan, Switch.parse(record.switch or {}, "the journal")
    if plan.target.layout is Layout.SHADOW:
        _check_aliases(connection, plan, switch)
    late_writes = LateWrites(
        store,
        models,
        workspace,
        request,
        load_forward_projector(store.facts, models, workspace.artefacts, request),
    )
    _check_late_writes(late_writes, load_ledger(store.config, connection, workspace.artefacts))
    _check_bare(late_writes, record)
    for trouble in find_health_problems(connection, plan.target.collection):
        raise GateError(trouble, "wait until it has settled")


def _check_aliases(connection: Connection, plan: Plan, switch: Switch) -> None:
    """Raise if an alias still points to the source.

    Raises:
        GateError: One does.
    """
    leading = list_aliases(connection)
    # The alias was moved since the cutover: its readers may use the source again.
    if switch.alias is not None and leading.get(switch.alias) != plan.target.collection:
        raise GateError(
            f"the alias '{switch.alias}' points to '{leading.get(switch.alias)}', not to "
            f"'{plan.target.collection}'",
            "`xbtmigrate doctor` lists what to do",
        )
    # Readers of such an alias would get errors once the source is deleted.
    using = [name for name, to in leading.items() if to == plan.collection.name]
    if using:
        raise GateError(
            f"the alias(es) {', '.join(using)} still lead to '{plan.collection.name}'",
            "move or delete them first",
        )


def _check_late_writes(late_writes: LateWrites, ledger: PointHashes) -> None:
    """Raise if points were written to the old side since the cutover.

    Raises:
        GateError: There are some.
    """
    late = CopyResult()
    for _ in range(LOOKS):  # one may fall between the two writes of a client that writes both sides
        late = late_writes.copy_to_new(ledger, dry=True)
        if not late.changes:
            break
    if late.changes:
        named = ", ".join(late.changed)
        raise GateError(
            f"{late.changes:,} point(s) of the old side differ from what was switched to "
            f"(for example {named}): they were written to the old side since the cutover",
            "`xbtmigrate cutover --yes` carries them over; finalize once all writers have switched",
        )


def _check_bare(late_writes: LateWrites, record: MigrationRecord) -> None:
    """Raise if more points than accepted would be left without a vector of either model.

    Raises:
        GateError: They are more.
    """
    found = [point for page in late_writes.scroll_without_new() for point in page]
    # The number accepted at the cutover is the limit; an application may have added more.
    if len(found) > record.without_vector:
        raise GateError(
            f"{len(found):,} point(s) have no new vector (for example "
            f"{', '.join(found[:NAMED])}), {record.without_vector:,} were accepted",
            "complete them, or accept them with "
            f"`xbtmigrate cutover --yes --accept-without-vector {len(found)}`",
        )


def _document(
    removal: Removal, config: Config, record: MigrationRecord, snapshot: str | None
) -> FinalizeDocument:
    over = record.phase is Phase.FINALIZED
    plan = removal.plan
    alias = Switch.parse(record.switch or {}, "the journal").alias
    command = "xbtmigrate finalize --yes"
    if removal.connection.embedded:
        command += " --no-snapshot"
    return {
        "collection": removal.plan.collection.name,
        "deletes": removal.shown,
        "snapshot": snapshot,
        "snapshot_file": snapshot_place(plan, snapshot),
        "restore": restore_command(plan, config, snapshot),
        "snapshots_possible": not removal.connection.embedded,
        "data": data_place(plan, alias),
        "configuration": settings_after(plan, config, alias),
        "phase": record.phase,
        "status": "finalized" if over else "nothing was deleted",
        **(AFTER_FINALIZE if over else next_step(command)),
    }
