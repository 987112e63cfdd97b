"""Workflows: backfill. Check the plan, take the lease, run the loop, give the lease back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import xbtmigrate
from xbtmigrate.backfill.goal import Goal, Known, Outcome, Progress
from xbtmigrate.backfill.loop import Backfill
from xbtmigrate.config import Config
from xbtmigrate.errors import StaleError
from xbtmigrate.migration.phases import MigrationRecord, Phase
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.projectors import Projector
from xbtmigrate.protocols import Gallery
from xbtmigrate.qdrant.gallery.create import prepare as prepare_layout
from xbtmigrate.qdrant.wire.connect import check_writable
from xbtmigrate.types import Direction
from xbtmigrate.workflows.backfill.frozen_order import FrozenOrder
from xbtmigrate.workflows.backfill.request import Intent, Request, intend
from xbtmigrate.workflows.backfill.run_metrics import RunMetrics, served
from xbtmigrate.workflows.backfill.stop_at_quality import Watch
from xbtmigrate.workflows.backfill.throttle import load_of, paced
from xbtmigrate.workflows.compare_baseline import distrust_replaced, watched
from xbtmigrate.workflows.encode_points import Report
from xbtmigrate.workflows.last_error import noted
from xbtmigrate.workflows.migration import Migration, choice_of, open_migration
from xbtmigrate.workflows.serve.publish import publish_artefacts, store_hubness
from xbtmigrate.workflows.tally import Tally

QUARANTINE_SHOWN = 100
LEARNED = ("uncertainty", "combined", "benefit")
"""Orders that need the forward projector even where nothing is projected."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended, with exact counts of the gallery afterwards.

    Attributes:
        intent: What it set out to do.
        outcome: What the loop says.
        tally: Exact counts of the gallery.
        until: What the live gallery was measured to reach, where a gate was given.
    """

    intent: Intent
    outcome: Outcome
    tally: Tally
    until: dict[str, Any] | None = None

    @property
    def refused(self) -> bool:
        """Whether the run went to its end and its gate is still not met."""
        return self.until is not None and not self.until["met"] and not self.outcome.stopped

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
            "fraction": outcome.record.fraction,
            "until": self.until,
            "planned": self.intent.to_project + self.intent.to_encode,
            "projected": counts.projected,
            "encoded": counts.encoded,
            "vanished": counts.vanished,
            "missing_source": counts.missing_source,
            "failed": counts.failed,
            "still_changing": outcome.left,
            "seconds": round(outcome.seconds, 3),
            "points_per_second": round(self._written / max(outcome.seconds, 1e-9), 1),
            "gallery": self.tally.document(),
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
        if self.intent.fraction < 1 and STRATEGIES[self.intent.plan.strategy].encodes:
            return "xbtmigrate evaluate --queries FILE, or a larger --fraction"
        return "xbtmigrate evaluate --queries FILE"


def prepare(config: Config, request: Request) -> Intent:
    """Say what a run would do; reads only.

    Raises:
        XbtMigrateError: What the run itself would refuse.
    """
    with open_migration(config) as migration:
        intent, _, _ = check_run(migration, request, migration.journal.load())
    return intent


def check_run(
    migration: Migration, request: Request, record: MigrationRecord | None
) -> tuple[Intent, Projector | None, FrozenOrder]:
    """See that a run can be made, before anything is written.

    Returns:
        What it does, the projector where it needs one, and the order of encoding.

    Raises:
        GateError: The plan forbids it or is stale.
        XbtMigrateError: A part is missing.
    """
    intent = intend(migration, request, record)
    projector = projector_of(migration, intent)
    return intent, projector, _order(migration, intent, request, projector)


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
    metrics = RunMetrics(config.migration)
    with (
        served(metrics, request.metrics_port, request.metrics_host),
        open_migration(config) as migration,
    ):
        intent, projector, order = check_run(migration, request, migration.journal.load())
        check_writable(migration.connection, migration.facts.collection)
        start = intent.record or _first_record(intent)
        held = migration.journal.acquire(_bound(start, intent, projector))
        watch: Watch | None = None
        try:
            prepare_layout(migration.connection, migration.facts, choice_of(intent.plan.target))
            publish_artefacts(migration, intent.plan)
            distrust_replaced(migration, intent.plan)
            stop = _stop_at(deadline, should_stop)
            with (
                noted(migration),
                paced(migration, intent.plan, request, stop) as sparing,
            ):
                loop = loop_of(
                    migration, intent, held, projector, gallery=sparing, size=request.batch_size
                )
                order.gallery, loop.order = sparing, order
                metrics.load = lambda: load_of(sparing.pace, migration.connection)

                def show(step: Progress) -> None:
                    metrics.progress, metrics.quarantined = step, len(loop.quarantined)
                    report(step.stage.value, step.done, step.total)

                loop.on_progress, loop.should_stop = show, stop
                watch = _watch(migration, intent, request, loop, report)
                outcome = _watched(loop, watch, intent.tally.points)
            if not outcome.stopped:
                store_hubness(migration, intent.plan, report)
                publish_artefacts(migration, intent.plan)
        finally:
            migration.journal.release()
        tally = Tally.take(migration.gallery(intent.plan))
        return Result(intent, outcome, tally, None if watch is None else watch.document())


def _order(
    migration: Migration, intent: Intent, request: Request, projector: Projector | None
) -> FrozenOrder:
    """Choose the order of encoding; what it needs is looked for before anything is written."""
    gallery = migration.gallery(intent.plan)
    order = FrozenOrder(migration, gallery, intent.order, projector, request.demand)
    if intent.fraction > 0:
        order.check()
    return order


def _watch(
    migration: Migration, intent: Intent, request: Request, loop: Backfill, report: Report
) -> Watch | None:
    """Look at the live gallery on the way where a gate was given."""
    if request.until is None:
        return None
    projector = projector_of(migration, intent) if intent.projects else None
    parts = migration, loop.gallery, loop.order, projector
    return Watch(*parts, request.until, request.queries, report)


def _watched(loop: Backfill, watch: Watch | None, points: int) -> Outcome:
    """Run the loop, to its end or as far as a watch on the live gallery lets it."""
    if watch is None:
        return loop.run()
    loop.until = watch.until(points, loop.batch_size)
    outcome = loop.run()
    if not (outcome.stopped or watch.met):
        watch.reached(outcome.record.position, points)
    return outcome


def projector_of(migration: Migration, intent: Intent) -> Projector | None:
    """Load the forward projector where it is needed, and see that it is the one of this plan.

    Raises:
        StaleError: It is another one.
    """
    needed = intent.projects or intent.order in LEARNED
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
        collections=intent.plan.collections,
    )


def _bound(record: MigrationRecord, intent: Intent, projector: Projector | None) -> MigrationRecord:
    """Tie the record to the parts this run uses."""
    digest = projector.digest if projector is not None and intent.projects else ""
    return replace(
        record,
        projector_digest=digest or record.projector_digest,
        tool_version=xbtmigrate.__version__,
    )


def goal_of(migration: Migration, intent: Intent) -> Goal:
    """Say what a run that was asked this has to reach."""
    return Goal(intent.fraction, intent.projects, migration.config.plan.max_missing)


def loop_of(
    migration: Migration,
    intent: Intent,
    record: MigrationRecord,
    projector: Projector | None,
    *,
    gallery: Gallery,
    size: int,
) -> Backfill:
    """Put the loop of a run together; it shows nothing and asks nobody until that is set."""
    encodes = intent.fraction > 0
    order = FrozenOrder(migration, gallery, intent.order, projector)
    known: Known = migration.known if encodes else _NOTHING
    return Backfill(
        gallery=watched(migration, intent.plan, gallery),
        journal=migration.journal,
        record=record,
        goal=goal_of(migration, intent),
        order=order,
        modality=migration.stored,
        encoder=migration.new_encoder if encodes else None,
        projector=projector if intent.projects else None,
        known=known,
        batch_size=size,
        on_progress=lambda _: None,
        should_stop=lambda: "",
    )


class _NothingKnown:
    def find(self, hashes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        return np.empty((len(hashes), 0), np.float32), np.zeros(len(hashes), np.bool_)


_NOTHING = _NothingKnown()


def _stop_at(deadline: float, should_stop: Callable[[], str]) -> Callable[[], str]:
    return lambda: should_stop() or ("time budget used up" if time.monotonic() >= deadline else "")
