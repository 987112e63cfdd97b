"""Workflows: backfill. Check the plan, take the lease, run the loop, give the lease back."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import xbtmigrate
from xbtmigrate.backfill import Backfill, Goal, Known, Outcome, Progress
from xbtmigrate.config import Config
from xbtmigrate.errors import ConfigError, GateError, StaleError
from xbtmigrate.journal import MigrationRecord, Phase
from xbtmigrate.ordering import rank
from xbtmigrate.plan import Plan
from xbtmigrate.projectors import Projector
from xbtmigrate.protocols import Gallery
from xbtmigrate.qdrant.connection import check_writable
from xbtmigrate.qdrant.preparation import prepare as prepare_layout
from xbtmigrate.types import Direction, Kind, PointId, Strategy, vectors_of
from xbtmigrate.workflows.encoding import Report
from xbtmigrate.workflows.wiring import Migration, choice_of, open_migration

PROJECTING = (Strategy.FORWARD, Strategy.FASTFILL)
QUARANTINE_SHOWN = 100
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asks of one run.

    Attributes:
        fraction: Share of the points to re-encode; None for what is under way, or the plan's.
        budget: Time after which to stop, such as "30m"; None for none.
        order: Name of the ordering; None for the plan's.
        batch_size: Points per batch.
    """

    fraction: float | None
    budget: str | None
    order: str | None
    batch_size: int

    @property
    def seconds(self) -> float:
        """The budget in seconds.

        Raises:
            ConfigError: It is not a time.
        """
        if self.budget is None:
            return math.inf
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", self.budget.strip())
        if match is None or float(match[1]) <= 0:
            raise ConfigError(f"--budget '{self.budget}' is not a time", "write 90s, 30m, 8h or 2d")
        return float(match[1]) * _UNITS[match[2] or "s"]


@dataclass(frozen=True, slots=True)
class Intent:
    """What a run would do.

    Attributes:
        plan: The plan it follows.
        record: Where the migration stands, None before the first run.
        fraction: Share to be re-encoded.
        points: Points of the collection now.
        projected: Points with a projected vector now.
        encoded: Points with a true new vector now.
        order: Name of the ordering.
    """

    plan: Plan
    record: MigrationRecord | None
    fraction: float
    points: int
    projected: int
    encoded: int
    order: str

    @property
    def projects(self) -> bool:
        """Whether every point gets at least a projected vector."""
        return self.plan.strategy in PROJECTING

    @property
    def to_encode(self) -> int:
        """Points still to be encoded."""
        return max(0, math.ceil(self.fraction * self.points) - self.encoded)

    @property
    def to_project(self) -> int:
        """Points still to be projected."""
        return max(0, self.points - self.projected - self.encoded) if self.projects else 0

    def document(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        rate = self.plan.throughput
        seconds = self.to_encode / rate.encode
        seconds += 2 * (self.to_encode + self.to_project) / rate.scan
        target = self.plan.target
        return {
            "collection": self.plan.collection.name,
            "strategy": self.plan.strategy.value,
            "layout": target.layout.value,
            "writes_to": f"{target.collection}, vector '{target.vector}'",
            "phase": self.record.phase.value if self.record else Phase.PLANNED.value,
            "order": self.order,
            "fraction": self.fraction,
            "points": self.points,
            "projected": self.projected,
            "encoded": self.encoded,
            "to_project": self.to_project,
            "to_encode": self.to_encode,
            "estimated_seconds": round(seconds, 1),
            "next": f"xbtmigrate backfill --online --fraction {self.fraction:g}"
            if self.fraction
            else "xbtmigrate backfill --online",
        }


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended, with exact counts of the gallery afterwards.

    Attributes:
        intent: What it set out to do.
        outcome: What the loop says.
        projected: Points with a projected vector.
        encoded: Points with a true new vector.
        points: Points of the collection.
    """

    intent: Intent
    outcome: Outcome
    projected: int
    encoded: int
    points: int

    @property
    def interrupted(self) -> bool:
        """Whether the user stopped it."""
        return self.outcome.stopped == "interrupted"

    @property
    def _written(self) -> int:
        return self.outcome.counts.projected + self.outcome.counts.encoded

    def document(self) -> dict[str, Any]:
        """Return the stable JSON form; the counts are those of this run, `gallery` is exact."""
        outcome, counts, plan = self.outcome, self.outcome.counts, self.intent.plan
        return {
            "collection": plan.collection.name,
            "strategy": plan.strategy.value,
            "status": self._status(),
            "phase": outcome.record.phase.value,
            "fraction": self.intent.fraction,
            "planned": self.intent.to_project + self.intent.to_encode,
            "projected": counts.projected,
            "encoded": counts.encoded,
            "vanished": counts.vanished,
            "missing_source": counts.missing_source,
            "failed": counts.failed,
            "still_changing": outcome.left,
            "seconds": round(outcome.seconds, 3),
            "points_per_second": round(self._written / max(outcome.seconds, 1e-9), 1),
            "gallery": {
                "points": self.points,
                "projected": self.projected,
                "encoded": self.encoded,
                "without_new": max(0, self.points - self.projected - self.encoded),
            },
            "quarantined": dict(list(outcome.quarantined.items())[:QUARANTINE_SHOWN]),
            "next": self._next(),
        }

    def _status(self) -> str:
        if self.outcome.stopped:
            return f"stopped: {self.outcome.stopped}"
        if self.outcome.left:
            return "complete but for points that keep changing"
        before = self.intent.record
        if before is not None and before.phase is Phase.BACKFILLED and self._written == 0:
            return "already complete"
        return "complete"

    def _next(self) -> str:
        if self.outcome.stopped or self.outcome.left:
            return "run the same command again: it goes on from here"
        if self.intent.fraction < 1 and self.intent.plan.strategy is not Strategy.FORWARD:
            return "xbtmigrate evaluate --queries FILE, or a larger --fraction"
        return "xbtmigrate evaluate --queries FILE"


def prepare(config: Config, request: Request) -> Intent:
    """Say what a run would do; reads only.

    Raises:
        XbtMigrateError: What the run itself would refuse.
    """
    with open_migration(config) as migration:
        intent = _intent(migration, request, migration.journal.load())
        _projector(migration, intent)
    return intent


def run(
    config: Config, request: Request, *, should_stop: Callable[[], str], report: Report
) -> Result:
    """Do what the plan says, from wherever an earlier run left off.

    Args:
        config: The settings.
        request: What is asked of this run.
        should_stop: Asked after each batch; a reason stops the run.
        report: Called with progress.

    Raises:
        GateError: The plan forbids it or is stale, or another run holds the lease.
        XbtMigrateError: Something failed; the same call goes on from there.
    """
    deadline = time.monotonic() + request.seconds
    with open_migration(config) as migration:
        record = migration.journal.load()
        intent = _intent(migration, request, record)
        check_writable(migration.connection, migration.facts.collection)
        projector = _projector(migration, intent)
        start = migration.journal.load() or _first_record(intent)
        held = migration.journal.acquire(_bound(start, intent, projector))
        try:
            prepare_layout(migration.connection, migration.facts, choice_of(intent.plan.target))
            loop = _loop(migration, intent, held, projector, request.batch_size)
            loop.on_progress = lambda step: _show(report, step)
            loop.should_stop = lambda: should_stop() or _over(deadline)
            outcome = loop.run()
        finally:
            migration.journal.release()
        gallery = migration.gallery(intent.plan)
        return Result(
            intent,
            outcome,
            gallery.count(Kind.PROJECTED),
            gallery.count(Kind.ENCODED),
            gallery.count(),
        )


def _intent(migration: Migration, request: Request, record: MigrationRecord | None) -> Intent:
    """Check the plan and the request against each other and against what is there."""
    request.seconds  # noqa: B018 - raises where the budget is not a time
    plan = migration.artefacts.load_plan()
    plan.check_current(migration.binding())
    if record is not None and record.plan_digest != plan.digest:
        raise StaleError(
            f"migration '{record.migration}' is {record.phase} under plan "
            f"{record.plan_digest[:12]}, but the plan here is {plan.digest[:12]}",
            f"restore that plan.json under {migration.artefacts.folder}",
        )
    if plan.strategy in (Strategy.KEEP, Strategy.BRIDGE):
        raise GateError(
            f"the plan says {plan.strategy}, which writes nothing: {plan.recommendation.reason}",
            'to backfill all the same set plan.strategy = "fastfill" or "full" and plan again',
        )
    fraction = _fraction(plan, request, record)
    written = record is not None and record.stage is not None
    gallery = migration.gallery(plan)
    return Intent(
        plan=plan,
        record=record,
        fraction=fraction,
        points=gallery.count(),
        projected=gallery.count(Kind.PROJECTED) if written else 0,
        encoded=gallery.count(Kind.ENCODED) if written else 0,
        order=request.order or plan.ordering,
    )


def _fraction(plan: Plan, request: Request, record: MigrationRecord | None) -> float:
    """Share to re-encode: what is asked, else what is under way, else the plan's."""
    if plan.strategy is Strategy.FORWARD:
        if request.fraction:
            raise ConfigError(
                "the plan says forward, which encodes nothing: --fraction cannot be given",
                'set plan.strategy = "fastfill" and plan again',
            )
        return 0.0
    reached = record.fraction if record is not None else 0.0
    if request.fraction is not None:
        return max(request.fraction, reached)
    return reached if record is not None else plan.fraction


def _projector(migration: Migration, intent: Intent) -> Projector | None:
    """Load the forward projector where it is needed, and see that it is the one of this plan."""
    needed = intent.projects or intent.order == "uncertainty"
    if not needed:
        return None
    folder = migration.artefacts.projector_folder(Direction.FORWARD)
    projector = Projector.load(folder)
    manifest = projector.manifest
    expected = {
        "new model": (manifest.new_model, migration.new_encoder.fingerprint),
        "old dimension": (manifest.d_in, migration.facts.size),
        "new dimension": (manifest.d_out, intent.plan.target.size),
    }
    changes = [
        f"  {name}: projector has {was}, is {now}"
        for name, (was, now) in expected.items()
        if was != now
    ]
    if intent.record and intent.record.projector_digest not in ("", projector.digest):
        changes.append("  the vectors written so far were made by another projector")
    if changes:
        raise StaleError(
            f"the projector in {folder} does not fit:\n" + "\n".join(changes),
            "restore it, or train it again with `xbtmigrate train-projector`",
        )
    return projector


def _first_record(intent: Intent) -> MigrationRecord:
    return MigrationRecord(
        migration=intent.plan.migration,
        phase=Phase.PLANNED,
        plan_digest=intent.plan.digest,
        tool_version=xbtmigrate.__version__,
    )


def _bound(record: MigrationRecord, intent: Intent, projector: Projector | None) -> MigrationRecord:
    """Tie the record to the parts this run uses."""
    digest = projector.digest if projector is not None and intent.projects else ""
    return replace(
        record,
        projector_digest=digest or record.projector_digest,
        tool_version=xbtmigrate.__version__,
    )


def _loop(
    migration: Migration,
    intent: Intent,
    record: MigrationRecord,
    projector: Projector | None,
    batch_size: int,
) -> Backfill:
    gallery = migration.gallery(intent.plan)
    encodes = intent.fraction > 0
    order = _FrozenOrder(migration, gallery, intent.order, projector)
    known: Known = migration.known if encodes else _NOTHING
    return Backfill(
        gallery=gallery,
        journal=migration.journal,
        record=record,
        goal=Goal(intent.fraction, intent.projects, migration.config.plan.max_missing),
        order=order,
        modality=migration.stored,
        encoder=migration.new_encoder if encodes else None,
        projector=projector if intent.projects else None,
        known=known,
        batch_size=batch_size,
        on_progress=lambda _: None,
        should_stop=lambda: "",
    )


class _NothingKnown:
    def find(self, hashes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        return np.empty((len(hashes), 0), np.float32), np.zeros(len(hashes), np.bool_)


_NOTHING = _NothingKnown()


@dataclass(slots=True)
class _FrozenOrder:
    """Makes the order of re-encoding once and reloads it ever after."""

    migration: Migration
    gallery: Gallery
    name: str
    projector: Projector | None
    _loaded: tuple[Sequence[PointId], str] | None = None

    def __call__(self) -> tuple[Sequence[PointId], str]:
        if self._loaded is None:
            self._loaded = self._reloaded() or self._made()
        return self._loaded

    def _reloaded(self) -> tuple[Sequence[PointId], str] | None:
        found = self.migration.artefacts.load_order()
        if found is None:
            return None
        ids, digest, name = found
        if name != self.name:
            raise ConfigError(
                f"the order of this migration is frozen as '{name}', not '{self.name}'",
                f"run it without --order; to order anew delete "
                f"{self.migration.artefacts.order_file}: what is encoded stays encoded",
            )
        return ids, digest

    def _made(self) -> tuple[Sequence[PointId], str]:
        """Score every point by its old vector; what is already paid for comes first."""
        ordering = self.migration.ordering(self.name, self.projector)
        ids: list[PointId] = []
        scores = [np.empty(0, np.float32)]
        for batch in self.gallery.read({"source", "old"}):
            members = batch["id"].to_pylist()
            found = ordering.score(members, vectors_of(batch, "old"))
            paid = self.migration.known.find(batch["content_hash"].to_pylist())[1]
            scores.append(np.where(paid, np.float32(np.inf), found).astype(np.float32))
            ids += members
        values = np.concatenate(scores)
        places = rank(ids, values)
        ordered = [ids[place] for place in places]
        return ordered, self.migration.artefacts.save_order(ordered, values[places], self.name)


def _show(report: Report, step: Progress) -> None:
    report(step.stage.value, step.done, step.total)


def _over(deadline: float) -> str:
    return "time budget used up" if time.monotonic() >= deadline else ""
