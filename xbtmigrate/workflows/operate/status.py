"""Report phase, exact counts, rate and next command of a migration. Reads only."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.config import Config
from xbtmigrate.documents.status import (
    Artefact,
    CountedDocument,
    LoadDocument,
    QualityDocument,
    StatusDocument,
    TenantsDocument,
)
from xbtmigrate.errors import ArtefactError
from xbtmigrate.migration.phases import MigrationRecord, Phase
from xbtmigrate.migration.plan import Plan
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.protocols import Journal
from xbtmigrate.qdrant.journal.journal import QdrantJournal
from xbtmigrate.qdrant.journal.run_control import Control
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.reader import Reader
from xbtmigrate.types import Direction, Strategy
from xbtmigrate.workflows.backfill.control import is_running
from xbtmigrate.workflows.next_step import find_next_step, find_phase
from xbtmigrate.workflows.prerequisites import route_option
from xbtmigrate.workflows.store import Store, open_connection, store_over
from xbtmigrate.workflows.tally import Tally
from xbtmigrate.workflows.tenants import count_tenants
from xbtmigrate.workflows.workspace import artefacts_of

ENDING = (Phase.ABORTING, Phase.FINALIZING, Phase.FINALIZED)
"""Phases in which one of the collections may be gone."""
ENDED = (Phase.BACKFILLED, Phase.VERIFIED, Phase.CUTTING_OVER, Phase.CUT_OVER)
"""Phases after a backfill: whatever is due now, an application has written since."""
COUNTED = (Phase.BACKFILLING, Phase.PAUSED, Phase.BACKFILLED, Phase.VERIFIED, Phase.ROLLED_BACK)
"""Phases in which tenants are counted."""


def report_status(config: Config) -> StatusDocument:
    """Return phase, exact counts, rate, time left, artefacts and the next command.

    Raises:
        XbtMigrateError: The server or the collection cannot be used.
    """
    with open_connection(config) as connection:
        return status_over(config, connection)


def status_over(config: Config, connection: Connection) -> StatusDocument:
    """Do the same over an open connection."""
    record = _record(config, connection)
    # Not `store_over`, which reads the source: it may be deleted already.
    if record is not None and record.phase in ENDING:
        return _ending(config, connection, record)
    store = store_over(config, connection)
    artefacts = artefacts_of(config)
    plan = _plan(store.journal, artefacts)
    # Before the first pass the new vector may not exist, and counting would fail.
    written = plan is not None and record is not None and record.stage is not None
    tally, tenants = Tally(store.facts.points), None
    if plan is not None and written:
        tally = _tally(store, plan, record)
        # Later, applications write new vectors themselves, which no mark tells apart.
        if record is not None and record.phase in COUNTED:
            tenants = count_tenants(store, plan)
    phase = find_phase(record, plan, artefacts)
    left = _left(plan.strategy if plan else None, _fraction(plan, record), tally)
    counted: CountedDocument = {
        **tally.document(),
        "collection": store.facts.collection,
        "by_application": tally.applied,
        "late_writes": tally.pending if phase in ENDED else None,
        "left": left,
        "eta_seconds": round(left / rate, 1) if (rate := _rate(record)) and left else None,
    }
    return _document(config, connection, phase, record, plan, counted=counted, tenants=tenants)


def _record(config: Config, connection: Connection) -> MigrationRecord | None:
    """Return the journal's record; None where a further migration of the name is only planned."""
    record = QdrantJournal(connection, config.migration).load()
    if record is not None and record.phase is Phase.FINALIZED:
        return None if artefacts_of(config).load_plan().follows(record) else record
    return record


def _tally(store: Store, plan: Plan, record: MigrationRecord | None) -> Tally:
    """Count the gallery; after a cutover, vectors that applications write count as done too."""
    tally = Tally.take(store.gallery(plan))
    if record is None or record.phase is not Phase.CUT_OVER:
        return tally
    target = Reader(store.connection, plan.target.collection, 1)
    with_new = target.count_with_vector(plan.target.vector)
    return tally.with_those_of_applications(target.count(), with_new)


def _ending(config: Config, connection: Connection, record: MigrationRecord) -> StatusDocument:
    """Return the document of an ending migration, one of whose collections may be deleted."""
    plan = artefacts_of(config).load_plan()
    source, target = plan.collection.name, plan.target.collection
    # `abort` deletes the new side, `finalize` the old one: count on the side that stays.
    there = source if record.phase is Phase.ABORTING else target
    counted: CountedDocument = {
        **Tally(Reader(connection, there, 1).count()).document(),
        "collection": there,
        "by_application": 0,
        "without_new": 0,
        "late_writes": None,
        "left": 0,
        "eta_seconds": None,
    }
    return _document(config, connection, record.phase, record, plan, counted=counted)


def _document(
    config: Config,
    connection: Connection,
    phase: Phase | None,
    record: MigrationRecord | None,
    plan: Plan | None,
    *,
    counted: CountedDocument,
    tenants: TenantsDocument | None = None,
) -> StatusDocument:
    """Add what the record and the files say to what was counted in the collection."""
    rate = _rate(record)
    control, running = Control(connection, config.migration), is_running(record)
    # While a run is alive, the error of an earlier one is history.
    trouble = None if running else control.read_error()
    return {
        **counted,
        "migration": config.migration,
        "phase": phase or "not planned",
        "strategy": plan.strategy if plan else None,
        "plan": plan.digest if plan else None,
        "fraction": _fraction(plan, record),
        "points_per_second": round(rate, 1) if rate else None,
        "owner": record.owner or None if record else None,
        "updated_at": record.updated_at if record else None,
        "load": _load(config, connection, record),
        "quality": _quality(config, plan),
        "tenants": tenants,
        "artefacts": _artefacts(artefacts_of(config)),
        **find_next_step(
            phase,
            plan,
            running=running,
            paused=control.read_command().paused,
            route="" if plan is None else route_option(connection, plan),
        ),
        "last_error": None if trouble is None else trouble[0],
    }


def _quality(config: Config, plan: Plan | None) -> QualityDocument | None:
    found = None if plan is None else artefacts_of(config).load_live_quality(plan.digest)
    if found is None:
        return None
    return {
        "gate": found.gate,
        "level": found.level,
        "fractions": list(found.fractions),
        "values": list(found.values),
    }


def _fraction(plan: Plan | None, record: MigrationRecord | None) -> float:
    if record is not None:
        return record.fraction
    return plan.fraction if plan else 0.0


def _plan(journal: Journal, artefacts: Artefacts) -> Plan | None:
    """Return the frozen plan; None before planning. A damaged or lost plan is an error."""
    if not artefacts.plan_file.exists():
        if journal.load() is not None:
            raise ArtefactError(
                f"the journal knows this migration, but {artefacts.plan_file} is gone",
                "restore the folder .xbtmigrate from a copy",
            )
        return None
    return artefacts.load_plan()


def _load(config: Config, connection: Connection, record: MigrationRecord | None) -> LoadDocument:
    """Return the pace that the present or last run has published."""
    said = Control(connection, config.migration).read_load()
    # Every key is there, so a script need not test for them.
    load = {name: said.get(name) for name in LoadDocument.__annotations__}
    load["pauses"] = said.get("pauses", {})
    # A killed run cannot publish its end, so its last state would look alive.
    if said and not is_running(record):
        load |= {"state": "ended", "reason": ""}
    return cast("LoadDocument", load)


def _rate(record: MigrationRecord | None) -> float | None:
    """Return the points written per second of working time so far; None before the first."""
    if record is None or record.seconds <= 0:
        return None
    # Over all runs, without the pauses between them: a steadier base for the time left.
    return (record.counts.projected + record.counts.encoded) / record.seconds or None


def _left(strategy: Strategy | None, fraction: float, tally: Tally) -> int:
    """Return the number of vectors still to be written for the present fraction."""
    if strategy is None or not STRATEGIES[strategy].writes:
        return 0
    # The fraction counts all points, but those without content can never be encoded.
    most = tally.points - tally.without_vector
    # left = encodes still due for the fraction, and where the plan projects, the points without
    # any new vector, which are projected before.
    encode = max(0, min(most, round(fraction * tally.points)) - tally.encoded - tally.applied)
    return encode + tally.pending if STRATEGIES[strategy].projects else encode


def _artefacts(artefacts: Artefacts) -> dict[Artefact, str]:
    files: dict[Artefact, Path] = {
        "plan": artefacts.plan_file,
        "pairs": artefacts.pairs_file,
        "bridge": artefacts.projector_folder(Direction.BRIDGE),
        "forward": artefacts.projector_folder(Direction.FORWARD),
        "serving": artefacts.serving_folder,
        "switch": artefacts.switch_file,
        "order": artefacts.order_file,
    }
    return {name: str(path) for name, path in files.items() if path.exists()}
