"""Verify a backfilled migration: every point as planned, everything else as it was.

The points are read in pages, and findings are stored, so that an interrupted run resumes. Faulty
points are checked again at the end, since an application may have written in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.config import Config
from xbtmigrate.documents.verify import StoppedVerifyDocument, VerifyDocument
from xbtmigrate.errors import GateError
from xbtmigrate.migration.phases import MigrationRecord, Phase, Stage, utc_now
from xbtmigrate.projectors import Projector
from xbtmigrate.protocols import Gallery
from xbtmigrate.qdrant.gallery.open_gallery import open_fidelity
from xbtmigrate.qdrant.gallery.remove import distrust
from xbtmigrate.qdrant.gallery.settings import compare_settings
from xbtmigrate.workflows.backfill.frozen_order import FrozenOrder
from xbtmigrate.workflows.backfill.make_loop import (
    LoopTask,
    load_forward_projector,
    make_goal,
    make_loop,
)
from xbtmigrate.workflows.backfill.request import BackfillRequest, load_request
from xbtmigrate.workflows.compare_baseline import compare_with_baseline, refresh_baseline
from xbtmigrate.workflows.encode_points import Report
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.next_step import VERIFY, next_step
from xbtmigrate.workflows.prerequisites import route_option
from xbtmigrate.workflows.store import Store, open_store
from xbtmigrate.workflows.tally import Tally
from xbtmigrate.workflows.verify.check_points import BEHIND, Examiner, Fault, sample_hash
from xbtmigrate.workflows.verify.checkpoint import VerifyCheckpoint, resume_or_start
from xbtmigrate.workflows.verify.result import VerifyFindings, compare_index_recall
from xbtmigrate.workflows.workspace import Workspace

SAVE_SECONDS = 2.0
KEPT_AT_ONCE = 4096
VERIFIABLE = (Phase.BACKFILLED, Phase.VERIFIED, Phase.ROLLED_BACK)


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """The options of one verification.

    Attributes:
        sample: Points to look at; None for all.
        reencode: Encoded points to encode again, about.
        max_stale: Points written since the backfill that are accepted.
        repair: Whether to make right what was found.
        hnsw_ef: What the application searches with; None for the server's default.
        replaced: Points whose old vectors an application may have replaced, at most.
    """

    sample: int | None = None
    reencode: int = 128
    max_stale: int = 0
    repair: bool = False
    hnsw_ef: int | None = None
    replaced: int = 0


def verify(
    config: Config, extent: VerifyOptions, *, should_stop: Callable[[], str], report: Report
) -> VerifyDocument | StoppedVerifyDocument:
    """Verify a backfilled migration, and store in the journal whether it is clean.

    Args:
        config: The settings.
        extent: The options.
        should_stop: Asked after each page; a reason stops the run.
        report: Called with progress.

    Raises:
        GateError: The migration is not in a phase that can be verified, or the plan is stale.
        XbtMigrateError: A part failed; the same call goes on from there.
    """
    started = time.monotonic()
    with open_store(config) as store:
        models = Models(config)
        workspace = Workspace(config, models)
        record, request = check_verifiable(store, models, workspace.artefacts, store.journal.load())
        held = store.journal.acquire(record)
        try:
            run = _Run(store, models, workspace, request, extent, held, should_stop, report)
            run.scan()
            if run.stopped:
                return run.stopped_document()
            run.settle()
            evidence = run.evidence()
            clean = not evidence.reasons
            judged = _judged(run.record, clean=clean)
            # Replaced old vectors that were accepted are the baseline of the next verification.
            if clean and evidence.baseline is not None:
                seen = evidence.baseline
                refresh_baseline(
                    store.connection,
                    workspace.artefacts,
                    request.plan,
                    [*seen.replaced, *seen.vectors_changed],
                )
            store.journal.save(judged)
        finally:
            store.journal.release()
    return evidence.document(judged.phase, time.monotonic() - started)


def check_verifiable(
    store: Store, models: Models, artefacts: Artefacts, record: MigrationRecord | None
) -> tuple[MigrationRecord, BackfillRequest]:
    """Return the record and the request of its backfill, if a verification can be made.

    Raises:
        GateError: The migration is in another phase, or the plan is stale.
    """
    found = _verifiable(record)
    return found, load_request(store, models, artefacts, found)


def _verifiable(record: MigrationRecord | None) -> MigrationRecord:
    """Return the record of a migration whose passes have finished.

    Raises:
        GateError: It is in another phase.
    """
    if record is None:
        raise GateError(
            "nothing has been backfilled yet", "run `xbtmigrate backfill --online` first"
        )
    swept = record.phase is Phase.PAUSED and record.stage is Stage.SWEEP
    if record.phase in VERIFIABLE or swept:
        return record
    after = record.phase in (Phase.CUTTING_OVER, Phase.CUT_OVER)
    hint = "let `xbtmigrate backfill --online` finish first"
    if after:
        hint = "after a cutover the application writes new vectors itself; see `xbtmigrate doctor`"
    raise GateError(f"migration '{record.migration}' is {record.phase}", hint)


def _judged(record: MigrationRecord, *, clean: bool) -> MigrationRecord:
    """Return the record with the result."""
    if clean:
        return replace(record.move_to(Phase.VERIFIED), verified_at=utc_now())
    if record.phase is Phase.VERIFIED:
        record = record.move_to(Phase.BACKFILLED)
    return replace(record, verified_at="")


@dataclass(slots=True)
class _Run:
    """One verification of one migration, whose lease the caller holds."""

    store: Store
    models: Models
    workspace: Workspace
    request: BackfillRequest
    extent: VerifyOptions
    record: MigrationRecord
    should_stop: Callable[[], str]
    report: Report
    stopped: str = ""
    repaired: int = 0
    _gallery: Gallery = field(init=False)
    _projector: Projector | None = field(init=False)
    _order: FrozenOrder = field(init=False)
    _points: int = field(init=False)
    _state: VerifyCheckpoint = field(init=False)
    _examiner: Examiner = field(init=False)

    def __post_init__(self) -> None:
        self._gallery = self.store.gallery(self.request.plan)
        self._projector = load_forward_projector(
            self.store.facts, self.models, self.workspace.artefacts, self.request
        )
        self._order = FrozenOrder(
            self.workspace, self._gallery, self.request.order, self._projector
        )
        self._points = self._gallery.count()
        asked = VerifyCheckpoint(
            plan=self.request.plan.digest,
            fraction=self.request.fraction,
            sample=self.extent.sample,
            reencode=self.extent.reencode,
            started_at=utc_now(),
        )
        self._state = resume_or_start(self.workspace.artefacts.verification_file, asked)
        self._examiner = self._make_examiner()

    def scan(self) -> None:
        """Check all points, or a sample, from where an earlier run stopped."""
        total = min(self.extent.sample or self._points, self._points)
        saved = time.monotonic()
        for batch in self._batches():
            self._state.remember(self._examiner.look(batch, self._chosen))
            self._state.checked += len(batch)
            self._state.cursor = batch["id"][-1].as_py()
            self.report("verifying", min(self._state.checked, total), total)
            self.stopped = self.should_stop()
            if time.monotonic() - saved > SAVE_SECONDS or self.stopped:
                self._state.save(self.workspace.artefacts.verification_file)
                saved = time.monotonic()
            if self.stopped or self._state.overflowing:
                return

    def settle(self) -> None:
        """Find strays, check faulty points again, and correct them if `repair` is set."""
        fidelity = self._examiner.fidelity
        if fidelity is not None and not self._state.overflowing:
            for page in fidelity.strays():
                what = (Fault.STRAY, "its source point is gone")
                self._state.remember(dict.fromkeys(page, what))
        if not self._state.overflowing:
            self._look_again()
        if self.extent.repair and self._state.mismatches:
            self._repair()
        self._state.finished = True
        self._state.save(self.workspace.artefacts.verification_file)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        columns = {"source", "kind", "old", "new"}
        if self.extent.sample is None or self.extent.sample >= self._points:
            yield from self._gallery.read(columns, after=self._state.cursor)
            return
        # A hash of the id picks the sample, so a resumed run picks the same points.
        share, seed = self.extent.sample / self._points, self.request.plan.seed
        for page in self._gallery.read(set(), after=self._state.cursor):
            ids = [each for each in page["id"].to_pylist() if sample_hash(seed, each) < share]
            yield from self._gallery.read(columns, ids=ids)

    def _chosen(self, point: str) -> bool:
        return sample_hash(self.request.plan.seed, point) < self.extent.reencode / self._points

    def _look_again(self) -> None:
        suspects = self._state.found
        self._state.mismatches = {}
        self._state.remember(self._examiner.look_again(suspects))

    def _repair(self) -> None:
        """Remove the mark of each wrong point, and let the backfill's loop make its vector."""
        if any(fault is Fault.WRONG_VECTOR for fault, _ in self._state.found.values()):
            self._look_at_all()
        self._keep_remade()
        before = len(self._state.mismatches)
        wrong = [point for point, (fault, _) in self._state.found.items() if fault not in BEHIND]
        # Points that are only behind are already due: the loop finds them anyway.
        distrust(self.store.connection, self.request.plan.target, wrong)
        # From the first pass, so that each point gets the kind of vector it should have.
        anew = replace(self.record, stage=None, cursor=None, position=0)
        gallery = self.store.gallery(self.request.plan)
        loop = make_loop(
            self.store,
            self.models,
            self.workspace,
            LoopTask(self.request, anew, self._projector, gallery, self._order),
            on_progress=lambda step: self.report(step.stage.doing, step.done, step.total),
            should_stop=self.should_stop,
        )
        self.record = loop.run().record
        self._look_again()
        self.repaired = before - len(self._state.mismatches)

    def _look_at_all(self) -> None:
        """Make every vector again, since a wrong one in a sample suggests more outside it."""
        self._examiner.compared.clear()
        columns, done = {"source", "kind", "old", "new"}, 0
        for batch in self._gallery.read(columns):
            self._state.remember(self._examiner.look(batch, lambda _: True))
            if len(self._examiner.remade) > KEPT_AT_ONCE:
                self._keep_remade()
            done += len(batch)
            self.report("verifying every vector", min(done, self._points), self._points)
            if self.should_stop():
                return

    def _keep_remade(self) -> None:
        """Put the vectors just made into the cache, replacing those that may be wrong."""
        remade = self._examiner.remade
        if remade:
            self.workspace.cache.add(list(remade), np.stack(list(remade.values())))
            remade.clear()

    def _make_examiner(self) -> Examiner:
        request = self.request
        fidelity = open_fidelity(self.store.connection, self.store.facts, self.request.plan.target)
        return Examiner(
            self._gallery,
            fidelity,
            self.models.new,
            self._projector,
            self.models.stored,
            make_goal(self.store.config, request).sweep(self._order).due,
            encodes=request.fraction > 0,
            compared=self._state.compared,
            least_cosine=self._state.least_cosine,
        )

    def stopped_document(self) -> StoppedVerifyDocument:
        """Return the document of a run that was stopped."""
        return {
            "collection": self.request.plan.collection.name,
            "status": f"stopped: {self.stopped}",
            "phase": self.record.phase,
            "clean": False,
            "checked": self._state.checked,
            "points": self._points,
            **next_step(VERIFY, "It continues from here."),
        }

    def evidence(self) -> VerifyFindings:
        """Collect everything that the result depends on."""
        plan = self.request.plan
        return VerifyFindings(
            plan=plan,
            state=self._state,
            max_stale=self.extent.max_stale,
            repaired=self.repaired,
            tally=Tally.take(self._gallery),
            max_unembeddable=self.store.config.plan.max_missing,
            settings=compare_settings(self.store.connection, self.store.facts, plan.target),
            index_recall=compare_index_recall(
                self.store,
                self.models,
                self.workspace.artefacts,
                self._gallery,
                plan.target,
                hnsw_ef=self.extent.hnsw_ef,
            ),
            baseline=compare_with_baseline(self.store, self.workspace.artefacts, plan),
            max_replaced=self.extent.replaced,
            route=route_option(self.store.connection, plan),
        )
