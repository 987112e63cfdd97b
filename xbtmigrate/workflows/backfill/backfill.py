"""Run `backfill`: check the plan, take the lease, run the loop, release the lease."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import xbtmigrate
from xbtmigrate.artefacts import Artefacts
from xbtmigrate.backfill.goal import Outcome, Progress
from xbtmigrate.backfill.step_times import StepTimes
from xbtmigrate.config import Config
from xbtmigrate.documents.backfill import BackfillDocument, UntilDocument
from xbtmigrate.documents.next_step import NextDocument
from xbtmigrate.evaluation.quality_gate import Gate
from xbtmigrate.migration.phases import MigrationRecord, Phase
from xbtmigrate.migration.plan import Plan
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.projectors import Projector
from xbtmigrate.qdrant.gallery.create import prepare as prepare_layout
from xbtmigrate.qdrant.wire.connect import check_writable
from xbtmigrate.workflows.backfill.engine import BUILT_IN, Engine, Job
from xbtmigrate.workflows.backfill.frozen_order import FrozenOrder
from xbtmigrate.workflows.backfill.make_loop import LoopTask, load_forward_projector, make_loop
from xbtmigrate.workflows.backfill.request import BackfillOptions, BackfillRequest, build_request
from xbtmigrate.workflows.backfill.run_metrics import RunMetrics, serve_metrics
from xbtmigrate.workflows.backfill.spending import Spending
from xbtmigrate.workflows.backfill.stop_at_quality import QualityMonitor
from xbtmigrate.workflows.backfill.tenant_order import ask_tenants
from xbtmigrate.workflows.backfill.throttle import pace_gallery, read_load
from xbtmigrate.workflows.compare_baseline import distrust_replaced
from xbtmigrate.workflows.encode_points import Report
from xbtmigrate.workflows.evaluate.traffic import read_demand
from xbtmigrate.workflows.last_error import note_error
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.next_step import BACKFILL, MEASURE, VERIFY, next_step
from xbtmigrate.workflows.serve.publish import publish_artefacts, store_hubness
from xbtmigrate.workflows.store import Store, open_store
from xbtmigrate.workflows.tally import Tally
from xbtmigrate.workflows.workspace import Workspace

QUARANTINE_SHOWN = 100


@dataclass(frozen=True, slots=True)
class BackfillResult:
    """How a run ended, with exact counts of the gallery afterwards.

    Attributes:
        request: What it set out to do.
        outcome: What the loop did, and why it stopped.
        tally: Exact counts of the gallery.
        until: What the live gallery was measured to reach, where a gate was given.
        cost: Money spent on embedding; None where the encoder does not count it.
    """

    request: BackfillRequest
    outcome: Outcome
    tally: Tally
    until: UntilDocument | None = None
    cost: float | None = None

    @property
    def refused(self) -> bool:
        """Whether the run finished without meeting its gate."""
        return self.until is not None and not self.until["met"] and not self.outcome.stopped

    @property
    def interrupted(self) -> bool:
        """Whether the user stopped it."""
        return self.outcome.stopped == "interrupted"

    @property
    def _written(self) -> int:
        return self.outcome.counts.projected + self.outcome.counts.encoded

    def document(self) -> BackfillDocument:
        """Return the document of a run; the counts are those of this run, `gallery` is exact."""
        outcome, counts, plan = self.outcome, self.outcome.counts, self.request.plan
        return {
            "collection": plan.collection.name,
            "strategy": plan.strategy,
            "status": self._status(),
            "phase": outcome.record.phase,
            "fraction": outcome.record.fraction,
            "until": self.until,
            "planned": self.request.to_project + self.request.to_encode,
            "projected": counts.projected,
            "encoded": counts.encoded,
            "vanished": counts.vanished,
            "missing_source": counts.missing_source,
            "failed": counts.failed,
            "still_changing": outcome.left,
            "cost": self.cost,
            "seconds": round(outcome.seconds, 3),
            "points_per_second": round(self._written / max(outcome.seconds, 1e-9), 1),
            "steps": {step.value: round(each, 6) for step, each in outcome.steps.items()},
            "gallery": self.tally.document(),
            "quarantined": dict(list(outcome.quarantined.items())[:QUARANTINE_SHOWN]),
            **self._next(),
        }

    def _status(self) -> str:
        if self.outcome.stopped:
            return f"stopped: {self.outcome.stopped}"
        if self.outcome.left:
            return "complete except for points that keep changing"
        before = self.request.record
        if before is not None and before.phase is Phase.BACKFILLED and self._written == 0:
            return "already complete"
        return "complete"

    def _next(self) -> NextDocument:
        if self.outcome.stopped or self.outcome.left:
            return next_step(BACKFILL, "It continues from here.")
        note = MEASURE
        if self.request.fraction < 1 and STRATEGIES[self.request.plan.strategy].encodes:
            note += f" A larger --fraction of `{BACKFILL}` embeds more."
        return next_step(VERIFY, note)


def prepare(config: Config, options: BackfillOptions) -> BackfillRequest:
    """Return what a run would do; reads only.

    Raises:
        XbtMigrateError: What the run itself would refuse.
    """
    with open_store(config) as store:
        models = Models(config)
        workspace = Workspace(config, models)
        request, _, _ = check_run(store, models, workspace, options, store.journal.load())
    return request


def check_run(
    store: Store,
    models: Models,
    workspace: Workspace,
    options: BackfillOptions,
    record: MigrationRecord | None,
) -> tuple[BackfillRequest, Projector | None, FrozenOrder]:
    """Check that a run is possible, before anything is written.

    Returns:
        What it does, the projector where it needs one, and the order of encoding.

    Raises:
        GateError: The plan forbids it or is stale.
        ConfigError: The gate of `--until` needs the old model, which is gone.
        XbtMigrateError: A part is missing.
    """
    request = build_request(store, models, workspace.artefacts, options, record)
    if options.until is not None:
        _check_until(models, request, options.until)
    projector = load_forward_projector(store.facts, models, workspace.artefacts, request)
    # Passed as a function: the log is read only where the order is not frozen yet.
    read_hits = None
    if options.demand is not None:
        read_hits = partial(read_demand, store, models, options.demand)
    gallery, tenants = store.gallery(request.plan), None
    if options.tenant_order is not None:
        tenants = ask_tenants(store, workspace.artefacts, request, options.tenant_order)
    order = FrozenOrder(workspace, gallery, request.order, projector, read_hits, tenants)
    if request.fraction > 0:
        order.check()
    return request, projector, order


def _check_until(models: Models, request: BackfillRequest, gate: Gate) -> None:
    """Refuse a gate whose measuring needs the old model where that is gone.

    Raises:
        ConfigError: It does.
    """
    if gate.anchor == "keep":
        models.require_old(f"--until '{gate.text}'", "compare with a number, or with full")
    # Without projected vectors, points that wait for theirs are searched by the old model.
    if not request.projects:
        models.require_old("--until where nothing is projected", 'set plan.strategy = "fastfill"')


def run(
    config: Config,
    options: BackfillOptions,
    engine: Engine = BUILT_IN,
    *,
    should_stop: Callable[[], str],
    report: Report,
) -> BackfillResult:
    """Carry out the plan from where an earlier run stopped.

    Args:
        config: The settings.
        options: The options of this run.
        engine: Carries out its passes.
        should_stop: Called after each batch; a reason stops the run.
        report: Called with progress.

    Raises:
        GateError: The plan forbids it or is stale, or another run holds the lease.
        XbtMigrateError: Something failed; the same call goes on from there.
    """
    metrics = RunMetrics(config.migration)
    # The port is opened first: one that is in use ends the command before anything is written.
    with (
        serve_metrics(metrics, options.metrics_port, options.metrics_host),
        open_store(config) as store,
    ):
        models = Models(config)
        workspace = Workspace(config, models)
        record = store.journal.load()
        request, projector, order = check_run(store, models, workspace, options, record)
        spending = Spending(models.new, options.max_cost)
        should_stop = spending.or_stop(should_stop)
        check_writable(store.connection, store.facts.collection)
        job = Job(store, models, workspace, request, projector, options.batch_size, spending.add)
        times = StepTimes()
        # After all checks: the lease is the first thing written.
        with engine.open(job) as crew, _hold_lease(store, _bound(request, projector)) as held:
            _prepare(store, workspace.artefacts, request.plan)
            with (
                note_error(config, store.connection),
                pace_gallery(
                    *(store, request.plan, options, should_stop, times), make_pace=crew.pace
                ) as sparing,
            ):
                metrics.load = lambda: read_load(sparing.pace, store.connection)
                # Scoring reads every point once, so it is paced like any other pass.
                order = order.at_pace(sparing)
                work = LoopTask(
                    *(request, held, projector, sparing, order),
                    batch_size=options.batch_size,
                    times=times,
                    passes=crew.passes,
                )
                watch = _watch(store, models, workspace, work, options=options, report=report)
                outcome = _run_loop(
                    *(store, models, workspace, work),
                    watch=watch,
                    on_progress=_shown_by(metrics, report),
                    should_stop=should_stop,
                )
            if not outcome.stopped:
                # Published again with the key under which the points now keep their hubness.
                store_hubness(store, workspace.artefacts, request.plan, report)
                publish_artefacts(store.connection, workspace.artefacts, request.plan)
        tally = Tally.take(store.gallery(request.plan))
        until = None if watch is None else watch.document()
        return BackfillResult(request, outcome, tally, until, spending.cost)


@contextmanager
def _hold_lease(store: Store, record: MigrationRecord) -> Iterator[MigrationRecord]:
    held = store.journal.acquire(record)
    try:
        yield held
    finally:
        # Otherwise a run on another machine would have to wait until the lease expires.
        store.journal.release()


def _prepare(store: Store, artefacts: Artefacts, plan: Plan) -> None:
    """Create the place for the new vectors, and publish what searchers need."""
    prepare_layout(store.connection, store.facts, plan.target)
    # Published before the first vector is written: searchers read these files from Qdrant,
    # and `doctor --yes` restores a lost folder from them.
    publish_artefacts(store.connection, artefacts, plan)
    distrust_replaced(store, artefacts, plan)


def _watch(
    store: Store,
    models: Models,
    workspace: Workspace,
    work: LoopTask,
    *,
    options: BackfillOptions,
    report: Report,
) -> QualityMonitor | None:
    """Return the monitor that measures the live gallery during the run, if a gate was given."""
    if options.until is None:
        return None
    return QualityMonitor(store, models, workspace, work, options.until, options.queries, report)


def _shown_by(metrics: RunMetrics, report: Report) -> Callable[[Progress], None]:
    """Return a callback that shows each step to the user and to Prometheus."""

    def show(step: Progress) -> None:
        metrics.progress, metrics.quarantined = step, step.quarantined
        report(step.stage.doing, step.done, step.total)

    return show


def _run_loop(
    store: Store,
    models: Models,
    workspace: Workspace,
    work: LoopTask,
    *,
    watch: QualityMonitor | None,
    on_progress: Callable[[Progress], None],
    should_stop: Callable[[], str],
) -> Outcome:
    """Run the loop to its end, or until the live gallery is good enough."""
    loop = make_loop(
        store,
        models,
        workspace,
        work,
        on_progress=on_progress,
        should_stop=should_stop,
        until=None if watch is None else watch.until(),
    )
    outcome = loop.run()
    # The last measurement may be behind by a hundredth of the points: measure the finished gallery.
    if watch is not None and not (outcome.stopped or watch.met):
        watch.reached(outcome.record.position, work.request.tally.points)
    return outcome


def _first_record(request: BackfillRequest) -> MigrationRecord:
    return MigrationRecord(
        migration=request.plan.migration,
        phase=Phase.PLANNED,
        plan_digest=request.plan.digest,
        tool_version=xbtmigrate.__version__,
        collections=request.plan.collections,
    )


def _bound(request: BackfillRequest, projector: Projector | None) -> MigrationRecord:
    """Store in the record the digests of the parts that this run uses."""
    record = request.record or _first_record(request)
    digest = projector.digest if projector is not None and request.projects else ""
    return replace(
        record,
        # A run that only encodes loads no map, but points may still hold an earlier projection.
        projector_digest=digest or record.projector_digest,
        tool_version=xbtmigrate.__version__,
    )
