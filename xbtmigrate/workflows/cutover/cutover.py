"""Switch applications to the new vectors: check, catch up, switch, then carry over late writes.

Before the switch the sweeps of the backfill run until few enough points change under them. Writes
that still go to the old vectors between the last sweep and the moment at which the last writer
follows the switch are carried over afterwards, and never replace something newer: a ledger, stored
before the switch, shows which side changed. Each step first checks what is there, so a killed
cutover continues where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.backfill.loop import Backfill
from xbtmigrate.config import Config
from xbtmigrate.documents.cutover import CutoverDocument
from xbtmigrate.documents.next_step import NextDocument
from xbtmigrate.errors import GateError
from xbtmigrate.migration.phases import MigrationRecord, Phase
from xbtmigrate.migration.point_hashes import PointHashes
from xbtmigrate.projectors import Projector
from xbtmigrate.qdrant.collection.aliases import list_aliases, move_alias
from xbtmigrate.qdrant.gallery.replicate import CopyResult
from xbtmigrate.qdrant.wire.connect import check_writable
from xbtmigrate.workflows.backfill.frozen_order import FrozenOrder
from xbtmigrate.workflows.backfill.make_loop import LoopTask, load_forward_projector, make_loop
from xbtmigrate.workflows.backfill.request import BackfillRequest, load_request
from xbtmigrate.workflows.cutover.late_writes import LateWrites, load_ledger, save_ledger
from xbtmigrate.workflows.cutover.options import Check, CutoverOptions
from xbtmigrate.workflows.cutover.preconditions import check_cutover, check_without_vector
from xbtmigrate.workflows.cutover.route import (
    Route,
    choose_route,
    describe_reader_change,
    find_route,
    move_record,
    publish,
)
from xbtmigrate.workflows.encode_points import Report
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.next_step import CUTOVER, NEXT, find_command, next_step
from xbtmigrate.workflows.store import Store, open_store
from xbtmigrate.workflows.tally import Tally
from xbtmigrate.workflows.workspace import Workspace

SWITCHABLE = (Phase.VERIFIED, Phase.CUTTING_OVER, Phase.CUT_OVER)
POLL_SECONDS = 2.0
SHOWN = 20


def cutover(
    config: Config, options: CutoverOptions, *, should_stop: Callable[[], str], report: Report
) -> CutoverDocument:
    """Switch applications to the new vectors, or return the checks that fail.

    Args:
        config: The settings.
        options: The options of the cutover.
        should_stop: Asked while waiting and catching up; a reason ends it before the switch.
        report: Called with progress.

    Raises:
        GateError: The migration is not verified, there is no way to switch, or points change faster
            than they can be followed.
        XbtMigrateError: A part failed; the same call goes on from there.
    """
    with open_store(config) as store:
        models = Models(config)
        workspace = Workspace(config, models)
        record = _switchable(store.journal.load())
        request, route, checks = check_switch(
            store, models, workspace.artefacts, record, options, report=report
        )
        if not (options.act and all(check.passed for check in checks)):
            return _document(request, route, record, checks, options=options)
        # A read-only API key fails here, before the lease, instead of between sweep and switch.
        check_writable(store.connection, store.facts.collection)
        held = store.journal.acquire(_accepting(record, options.accepted.without_vector))
        run = _Cutover(store, models, workspace, request, route, options, held, should_stop, report)
        try:
            run.go()
        finally:
            store.journal.release()
        return _document(request, route, run.record, checks, options=options, run=run)


def check_switch(
    store: Store,
    models: Models,
    artefacts: Artefacts,
    record: MigrationRecord | None,
    options: CutoverOptions,
    *,
    report: Report = lambda *_: None,
) -> tuple[BackfillRequest, Route, list[Check]]:
    """Check what must hold before a cutover. Reads only.

    Returns:
        The plan and record, the way that applications take, and each condition; none of these
        once the cutover has begun.

    Raises:
        GateError: The migration is not verified, or there is no way to switch.
    """
    record = _switchable(record)
    request = load_request(store, models, artefacts, record)
    route = find_route(record) or choose_route(
        store.config, store.connection, request.plan, options.alias, by_switch=options.by_switch
    )
    if options.act:
        # Shown before the switch: the result, which names it too, comes too late for readers.
        report(describe_reader_change(request.plan, route.alias), 0, 0)
    report("checking the conditions", 0, 0)
    if record.phase is not Phase.VERIFIED:
        return request, route, []
    checks = check_cutover(store, models, artefacts, request, route=route, options=options)
    return request, route, checks


def _switchable(record: MigrationRecord | None) -> MigrationRecord:
    if record is not None and record.phase in SWITCHABLE:
        return record
    phase = "not begun" if record is None else str(record.phase)
    raise GateError(f"the migration is {phase}, not verified", "`xbtmigrate verify` comes first")


def _accepting(record: MigrationRecord, count: int) -> MigrationRecord:
    """Return the record with the number of points that may stay without a new vector."""
    # A repeated cutover without the option must not lower the number accepted at the switch.
    before = 0 if record.phase is Phase.VERIFIED else record.without_vector
    return replace(record, without_vector=max(before, count))


@dataclass(slots=True)
class _Cutover:
    """One cutover whose lease the caller holds."""

    store: Store
    models: Models
    workspace: Workspace
    request: BackfillRequest
    route: Route
    options: CutoverOptions
    record: MigrationRecord
    should_stop: Callable[[], str]
    report: Report
    stopped: str = ""
    late: CopyResult = field(default_factory=CopyResult)

    def go(self) -> None:
        """Continue from the record's phase."""
        late_writes = LateWrites(
            self.store,
            self.models,
            self.workspace,
            self.request,
            load_forward_projector(
                self.store.facts, self.models, self.workspace.artefacts, self.request
            ),
        )
        # Not after the switch: a ledger made then would hide what was written late.
        if self.record.phase is not Phase.CUT_OVER and not self._is_moved():
            ledger = self._catch_up(late_writes)
            if self.stopped:
                return
            # Again: applications may have added points without content since the check.
            self._check_without_vector()
            # The copies of a shadow name their sources, so their ledger can follow the sweep.
            save_ledger(
                self.store.config,
                self.store.connection,
                self.workspace.artefacts,
                late_writes.make_ledger() if ledger is None else ledger,
            )
            # Journal first, then alias: `_is_moved` trusts the alias only after VERIFIED.
            self._move_to(Phase.CUTTING_OVER)
            self._move()
        if self.record.phase is not Phase.CUT_OVER:
            self._move_to(Phase.CUT_OVER)
        # The journal is the truth; the file is a copy, which the next call rewrites if lost.
        publish(self.workspace.artefacts, self.record)
        self._follow(late_writes)

    def _catch_up(self, late_writes: LateWrites) -> PointHashes | None:
        """Sweep until few enough points change, and then until the file of --go-file exists.

        Returns:
            In place, what the points were before the last sweep: what changes behind that is seen
            by the sweep or differs from it, so that it is carried over.
        """
        while True:
            # Read before the sweep: the last sweep has to begin after the file appeared.
            last = self.options.go_file is None or self.options.go_file.exists()
            # In place the ledger precedes the sweep: it would miss the writes between them.
            ledger = late_writes.make_ledger() if last and not late_writes.shadow else None
            loop = self._make_loop(late_writes.projector)
            left = loop.catch_up()
            self.record, self.stopped = loop.record, loop.stopped
            if self.stopped:
                return None
            if left > self.options.max_behind:
                raise GateError(
                    f"{left:,} points changed during the last sweep, at most "
                    f"{self.options.max_behind:,} may",
                    "cut over while fewer points are written, or raise --max-behind: late writes "
                    "are carried over after the switch",
                )
            if last:
                return ledger
            self.report(f"ready; waiting for {self.options.go_file}", 0, 0)
            self._wait()

    def _make_loop(self, projector: Projector | None) -> Backfill:
        gallery = self.store.gallery(self.request.plan)
        order = FrozenOrder(self.workspace, gallery, self.request.order, projector)
        return make_loop(
            self.store,
            self.models,
            self.workspace,
            LoopTask(self.request, self.record, projector, gallery, order),
            on_progress=lambda step: self.report("catching up", step.done, step.total),
            should_stop=self.should_stop,
        )

    def _check_without_vector(self) -> None:
        """Raise if the last sweep left more points without a new vector than were accepted.

        Raises:
            GateError: They are more.
        """
        tally = Tally.take(self.store.gallery(self.request.plan))
        check = check_without_vector(tally, self.record.without_vector)
        if not check.passed:
            raise GateError(check.detail, check.way_out)

    def _wait(self) -> None:
        """Wait one polling interval, or until the user stops the run."""
        until = time.monotonic() + POLL_SECONDS
        while time.monotonic() < until and not self.should_stop():
            time.sleep(0.1)
        self.stopped = self.should_stop()

    def _is_moved(self) -> bool:
        """Whether an earlier cutover was killed after its switch."""
        if self.route.alias is None or self.record.phase is Phase.VERIFIED:
            return False
        leading = list_aliases(self.store.connection)
        return leading.get(self.route.alias) == self.request.plan.target.collection

    def _move(self) -> None:
        if self.route.alias is not None:
            target = self.request.plan.target.collection
            move_alias(self.store.connection, self.route.alias, target)

    def _follow(self, late_writes: LateWrites) -> None:
        """Carry over late writes until a pass finds nothing more."""
        # The stored ledger: a cutover that is repeated after the switch has no other.
        ledger = load_ledger(self.store.config, self.store.connection, self.workspace.artefacts)
        self.report("carrying over late writes", 0, 0)
        self.late = late_writes.repeat(partial(late_writes.copy_to_new, ledger), ledger)

    def _move_to(self, phase: Phase) -> None:
        plan, route = self.request.plan, self.route
        self.record = move_record(
            self.models, self.workspace.artefacts, plan, self.record, phase=phase, route=route
        )
        self.store.journal.save(self.record)


def _document(
    request: BackfillRequest,
    route: Route,
    record: MigrationRecord,
    checks: Sequence[Check],
    *,
    options: CutoverOptions,
    run: _Cutover | None = None,
) -> CutoverDocument:
    plan = request.plan
    late = run.late if run else CopyResult()
    stopped = run.stopped if run else ""
    passed = all(check.passed for check in checks)
    return {
        "readers": describe_reader_change(plan, route.alias),
        "collection": plan.collection.name,
        "target": plan.target.collection,
        "vector": plan.target.vector,
        "layout": plan.target.layout,
        "alias": route.alias,
        "other_aliases": list(route.others),
        "phase": record.phase,
        "status": f"stopped: {stopped}" if stopped else _status(record, options, passed=passed),
        "ready": passed,
        "gates": [
            {
                "name": each.name,
                "passed": each.passed,
                "detail": each.detail,
                "way_out": None if each.passed else each.way_out,
            }
            for each in checks
        ],
        "carried_over": late.carried,
        "deleted": late.deleted,
        "newer_kept": late.kept,
        "left_behind": late.left[:SHOWN],
        "without_vector": late.bare[:SHOWN],
        **_next(record, options, checks),
    }


def _status(record: MigrationRecord, options: CutoverOptions, *, passed: bool) -> str:
    if not passed:
        return "a check failed"
    if not options.act:
        return "nothing was switched"
    return "cut over" if record.phase is Phase.CUT_OVER else "ready"


def _next(
    record: MigrationRecord, options: CutoverOptions, checks: Sequence[Check]
) -> NextDocument:
    failed = list(dict.fromkeys(each.way_out for each in checks if not each.passed))
    if failed:
        # One at a time: what is then refused still names what is left.
        return next_step(find_command(failed[0]) or CUTOVER, f"What to do: {'; '.join(failed)}.")
    if record.phase is Phase.CUT_OVER:
        return NEXT[Phase.CUT_OVER]
    return next_step(f"{CUTOVER} --yes", "It continues from here." if options.act else None)
