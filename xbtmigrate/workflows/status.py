"""Workflows: status. Where the migration stands, from exact counts. Reads only."""

from __future__ import annotations

from typing import Any

from xbtmigrate.config import Config
from xbtmigrate.errors import ArtefactError
from xbtmigrate.journal import MigrationRecord, Phase
from xbtmigrate.plan import Plan
from xbtmigrate.qdrant.control import Control
from xbtmigrate.types import Direction, Kind, Strategy
from xbtmigrate.workflows.load import LOAD
from xbtmigrate.workflows.steering import is_running
from xbtmigrate.workflows.wiring import Migration, open_migration


def report_status(config: Config) -> dict[str, Any]:
    """Return phase, exact counts, rate, time to go, artefacts and the next command.

    Raises:
        XbtMigrateError: The server or the collection cannot be used.
    """
    with open_migration(config) as migration:
        record = migration.journal.load()
        plan = _plan(migration)
        written = plan is not None and record is not None and record.stage is not None
        counts = {kind: _count(migration, plan, kind) if written else 0 for kind in Kind}
        points = migration.facts.points
        phase = record.phase if record is not None else _phase_without_record(migration, plan)
        fraction = record.fraction if record is not None else plan.fraction if plan else 0.0
        strategy = plan.strategy if plan else None
        rate = _rate(record)
        left = _left(strategy, fraction, points, counts)
        return {
            "migration": config.migration,
            "collection": migration.facts.collection,
            "phase": phase.value if phase else "not planned",
            "strategy": strategy.value if strategy else None,
            "plan": plan.digest if plan else None,
            "fraction": fraction,
            "points": points,
            "projected": counts[Kind.PROJECTED],
            "encoded": counts[Kind.ENCODED],
            "without_new": max(0, points - sum(counts.values())),
            "left": left,
            "points_per_second": round(rate, 1) if rate else None,
            "eta_seconds": round(left / rate, 1) if rate and left else None,
            "owner": record.owner or None if record else None,
            "updated_at": record.updated_at if record else None,
            "load": _load(migration, record),
            "artefacts": _artefacts(migration),
            "next": _next(phase, strategy),
        }


def _plan(migration: Migration) -> Plan | None:
    """The frozen plan; None before planning. A damaged plan is an error, a missing one is not."""
    if not migration.artefacts.plan_file.exists():
        if migration.journal.load() is not None:
            raise ArtefactError(
                f"the journal knows this migration, but {migration.artefacts.plan_file} is gone",
                "restore the folder .xbtmigrate from a copy",
            )
        return None
    return migration.artefacts.load_plan()


def _load(migration: Migration, record: MigrationRecord | None) -> dict[str, Any]:
    """What the run that is going, or the last one, said of its pace."""
    said = Control(migration.connection, migration.config.migration).load()
    load = {name: said.get(name) for name in LOAD}
    load["pauses"] = said.get("pauses", {})
    if said and not is_running(record):
        load |= {"state": "ended", "reason": ""}
    return load


def _count(migration: Migration, plan: Plan | None, kind: Kind) -> int:
    assert plan is not None
    return migration.gallery(plan).count(kind)


def _phase_without_record(migration: Migration, plan: Plan | None) -> Phase | None:
    if plan is None:
        return None
    trained = migration.artefacts.projector_folder(Direction.FORWARD).exists()
    return Phase.TRAINED if trained else Phase.PLANNED


def _rate(record: MigrationRecord | None) -> float | None:
    """Points written per second of working time so far."""
    if record is None or record.seconds <= 0:
        return None
    return (record.counts.projected + record.counts.encoded) / record.seconds or None


def _left(strategy: Strategy | None, fraction: float, points: int, counts: dict[Kind, int]) -> int:
    """Vectors still to be written for the present fraction."""
    if strategy in (None, Strategy.KEEP, Strategy.BRIDGE):
        return 0
    encode = max(0, round(fraction * points) - counts[Kind.ENCODED])
    if strategy is Strategy.FULL:
        return encode
    return encode + max(0, points - sum(counts.values()))


def _artefacts(migration: Migration) -> dict[str, str]:
    artefacts = migration.artefacts
    files = {
        "plan": artefacts.plan_file,
        "pairs": artefacts.pairs_file,
        "bridge": artefacts.projector_folder(Direction.BRIDGE),
        "forward": artefacts.projector_folder(Direction.FORWARD),
        "serving": artefacts.serving_folder,
        "order": artefacts.order_file,
    }
    return {name: str(path) for name, path in files.items() if path.exists()}


def _next(phase: Phase | None, strategy: Strategy | None) -> str:
    if phase is None:
        return "xbtmigrate plan"
    if strategy is Strategy.KEEP:
        return "nothing: the plan says keep"
    if phase is Phase.PLANNED:
        return "xbtmigrate train-projector"
    if strategy is Strategy.BRIDGE:
        return "serve with the bridge projector: nothing is written"
    if phase is Phase.BACKFILLED:
        return "xbtmigrate evaluate --queries FILE"
    return "xbtmigrate backfill --online"
