"""Run a backfill: read a batch, project or encode it, write it, advance the journal; then sweep.

Three things overlap: the next batch is read, this one is encoded or projected, the last two are
written. The journal is stored when all before it is written, so it is never ahead of the data.
Encoding goes in halves of a batch, and never while more than one half waits to be written: at most
one batch of encoded vectors is lost by a kill.

Progress is read from the data, never from a counter: every pass reads what each point has (column
`kind`) and does what is missing, so a pass can be killed anywhere and run again. The journal's
cursor only saves time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

from xbtmigrate.backfill.goal import Goal, Outcome, Progress, StopCheck, VectorLookup
from xbtmigrate.backfill.make_vectors import VectorMaker
from xbtmigrate.backfill.passes import LocalPasses, Passes
from xbtmigrate.backfill.pipeline import WorkQueue
from xbtmigrate.backfill.step_times import Step, StepTimes
from xbtmigrate.errors import XbtMigrateError
from xbtmigrate.migration.phases import Counts, MigrationRecord, Phase, Stage
from xbtmigrate.protocols import Encoder, Gallery, Journal, Projector, Written
from xbtmigrate.types import Kind, Modality, PointId

# An application that never stops writing would keep sweeps busy forever: after five, the points
# that still change are reported and the migration is `paused`.
SWEEP_PASSES = 5
# Storing the record took 45 ms on a busy server, as long as a batch (docs/benchmarks-data-path.md).
SAVE_SECONDS = 0.5
Done: TypeAlias = tuple[int, int]  # points of a pass: done, all


@dataclass(slots=True)
class Backfill:
    """One run of a migration's backfill over its parts.

    Attributes:
        gallery: The migrating collection.
        journal: Keeper of the record; the caller holds its lease.
        record: The migration's record at the start; advanced by the run.
        goal: What to reach.
        order: Makes or reloads the frozen order of re-encoding: ids, and the digest of the order.
        modality: What the new vectors embed.
        encoder: The new model; None where nothing is encoded.
        projector: Old -> new; None where nothing is projected.
        cache: New vectors paid for earlier.
        batch_size: Points per batch.
        on_progress: Called after each batch that is written, in a writing thread.
        should_stop: Called after each batch; a reason stops the run, "" lets it continue.
        until: Checked between batches of the encoding; may end it before the goal's fraction.
        times: Measures where the time goes.
        passes: Carry out the passes; by default in this process.
    """

    gallery: Gallery
    journal: Journal
    record: MigrationRecord
    goal: Goal
    order: Callable[[], tuple[Sequence[PointId], str]]
    modality: Modality
    encoder: Encoder | None
    projector: Projector | None
    cache: VectorLookup
    batch_size: int
    on_progress: Callable[[Progress], None]
    should_stop: Callable[[], str]
    until: StopCheck | None = None
    times: StepTimes = field(default_factory=StepTimes)
    passes: Callable[[VectorMaker], Passes] = LocalPasses
    counts: Counts = field(default_factory=Counts)
    quarantined: dict[PointId, str] = field(default_factory=dict)
    stopped: str = ""
    _later: WorkQueue = field(default_factory=WorkQueue)
    _maker: VectorMaker = field(init=False)
    _passes: Passes = field(init=False)
    _points: int = 0
    _ask_at: int = 0
    _ticked: float = field(default_factory=time.monotonic)

    def run(self) -> Outcome:
        """Continue from the record until the goal is reached or `should_stop` returns a reason.

        A failure leaves the record in phase `paused`, where it can still be stored, and is raised.

        Raises:
            GateError: More points than allowed cannot be embedded.
            XbtMigrateError: A part failed; a later run goes on from here.
        """
        before = self.record.seconds
        self._begin()
        self.record = self.record.move_to(Phase.BACKFILLING)
        # With a quality check, how far the encoding goes is known only when the check ends it.
        if self.until is None:
            self.record = replace(self.record, fraction=self.goal.fraction)
        left = 0
        try:
            with self._later:
                # Nothing is done yet; this checks for a stop that was requested during the start.
                self._advance()
                # 1. Whole passes; each is skipped when an earlier run has finished it.
                for work in (self._project_all, self._encode_in_order):
                    # A pass reads what the one before wrote: its writes must have been applied.
                    self._later.wait()
                    if not self.stopped:
                        work()
                self._later.wait()
                # 2. Sweep. What applications wrote behind the passes shows up as "kind is null", so
                #    correctness rests on this alone; the passes only make it short.
                if not self.stopped:
                    self.record = replace(self.record, fraction=self.goal.fraction)
                    left = self._sweep()
            self._finish(Phase.PAUSED if self.stopped or left else Phase.BACKFILLED)
        # OSError is a full disk, RuntimeError a machine out of threads (`errors.ExhaustedError`).
        except (XbtMigrateError, MemoryError, OSError, RuntimeError):
            # Leave a record to resume from; if storing it fails too, raise the first error.
            with contextlib.suppress(XbtMigrateError, MemoryError):
                self._finish(Phase.PAUSED)
            raise
        spent = self.record.seconds - before
        return Outcome(
            *(self.record, self.counts, left, self.quarantined, self.stopped, spent),
            dict(self.times.seconds),
        )

    def catch_up(self) -> int:
        """Sweep alone, in any phase, and leave the phase as it is.

        Returns:
            Points that the last sweep still found to be completed.
        """
        self._begin()
        with self._later:
            return self._sweep()

    def _begin(self) -> None:
        self._points = self.gallery.count()
        self._maker = VectorMaker(
            gallery=self.gallery,
            modality=self.modality,
            encoder=self.encoder,
            projector=self.projector,
            cache=self.cache,
            batch_size=self.batch_size,
            later=self._later,
            times=self.times,
            on_written=self._count_written,
            most_quarantined=int(self.goal.max_quarantined * self._points),
            points=self._points,
            quarantined=self.quarantined,
        )
        self._passes = self.passes(self._maker)

    def _project_all(self) -> None:
        """Give every point without a valid new vector a projected one, in the store's own order."""
        # A later stage in the record means that an earlier run has finished this pass.
        if not self.goal.projects or self.record.stage not in (None, Stage.PROJECT):
            return
        done, cursor = 0, self.record.cursor
        with contextlib.closing(self._passes.project(cursor)) as parts:
            for part in parts:
                done, cursor = done + part.points, part.last or cursor
                # Queued behind the part's writes: write, then advance, so a crash only repeats
                # work.
                self._advance(Stage.PROJECT, (done, self._points), cursor=cursor)
                if self.stopped:
                    return
        self._advance(Stage.ENCODE)

    def _encode_in_order(self) -> None:
        """Encode the first share of the frozen order; skip what is already encoded."""
        if self.goal.fraction == 0:
            return
        with self.times.time(Step.ORDER):
            ids, digest = self.order()
        # A position is valid for one order only. Starting again in another order costs reads,
        # not encoding: finished points are skipped.
        if digest != self.record.order_digest:
            self.record = replace(self.record, order_digest=digest, position=0)
        total, position = self.goal.places(len(ids)), self.record.position
        # What proves the expected kind is read in the same request instead of a second one.
        found = Kind.PROJECTED if self.goal.projects else None
        if position >= total or self._enough(position, len(ids)):
            return
        with contextlib.closing(self._passes.encode(ids[position:total], found)) as parts:
            for part in parts:
                position += part.points
                # Fractions only grow, also where a new order starts again at its first place.
                share = max(self.record.fraction, min(self.goal.fraction, position / len(ids)))
                self._advance(Stage.ENCODE, (position, total), position=position, fraction=share)
                if self.stopped or (position < total and self._enough(position, len(ids))):
                    return

    def _enough(self, position: int, places: int) -> bool:
        """Return whether to end the encoding here; if so, what was reached becomes the goal."""
        if self.until is None or position < self._ask_at:
            return False
        self._ask_at = position + self.until.every
        # The check reads the stored vectors, so what is counted as done must be written.
        self._later.wait()
        if not self.until.reached(position, places):
            return False
        self.goal = replace(self.goal, fraction=position / places)
        return True

    def _sweep(self) -> int:
        """Complete points that arrived or changed meanwhile; returns those of the last sweep."""
        wanting, sweep = 0, self.goal.sweep(self.order)
        for _ in range(SWEEP_PASSES):
            wanting = seen = 0
            with contextlib.closing(self._passes.sweep(sweep)) as parts:
                for part in parts:
                    wanting, seen = wanting + part.due, seen + part.points
                    self._advance(Stage.SWEEP, (seen, self._points))
                    if self.stopped:
                        return wanting
            self._later.wait()
            # A copy whose source point was deleted is work too, and needs one more sweep.
            with self.times.time(Step.SWEEP):
                wanting += self.gallery.prune()
            # Only a sweep that found nothing is proof: points may have changed behind the others.
            if wanting == 0:
                break
        return wanting

    def _count_written(self, result: Written, kind: Kind) -> None:
        self._count(**{kind.value: len(result.written)}, vanished=len(result.vanished))

    def _count(self, **numbers: int) -> None:
        more = Counts(**numbers)
        self.counts = self.counts.plus(more)
        self.record = replace(self.record, counts=self.record.counts.plus(more))

    def _advance(
        self, stage: Stage | None = None, done: Done | None = None, **place: PointId | float | None
    ) -> None:
        """Store the progress once everything before it is written; check whether to stop."""
        changes = place if stage is None else {"stage": stage, **place}
        # Taken in the loop's thread: when the write is done, later batches are noted as well.
        noted = self._maker.take_noted()
        self._later.do(partial(self._advance_now, changes, noted, done))
        self.stopped = self.stopped or self.should_stop()

    def _advance_now(self, changes: Mapping[str, Any], noted: Counts, done: Done | None) -> None:
        # Tasks given to `do` run one after another, so no two threads change the record at once.
        self._count(**asdict(noted))
        stage = self.record.stage
        self.record = replace(self.record, **changes)
        # On a busy server, storing the record takes as long as writing a batch.
        if self.record.stage is not stage or time.monotonic() - self._ticked >= SAVE_SECONDS:
            self._store()
        if done is not None:
            stage = self.record.stage or Stage.PROJECT
            self.on_progress(Progress(stage, *done, self.counts, len(self.quarantined)))

    def _finish(self, phase: Phase) -> None:
        # A pass that was stopped may have noted something on its way out.
        self._count(**asdict(self._maker.take_noted()))
        self.record = self.record.move_to(phase)
        self._store()

    def _store(self) -> None:
        now = time.monotonic()
        self.record = replace(self.record, seconds=self.record.seconds + now - self._ticked)
        self._ticked = now
        self.journal.save(self.record)
