"""Domain: THE loop. Next batch, project or encode, write and wait, advance; then sweep until clean.

No point is trusted to a counter: every pass asks each point what it has (column `kind`) and does
what is missing, so a pass may be cut off anywhere and run again. The journal's cursor only saves
time.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from xbtmigrate.errors import GateError, UnreadableSourceError, XbtMigrateError
from xbtmigrate.journal import Counts, MigrationRecord, Phase, Stage
from xbtmigrate.protocols import Encoder, Gallery, Journal, Projector
from xbtmigrate.types import Kind, Modality, PointId, Vectors, vector_array, vectors_of

SWEEP_PASSES = 5


@dataclass(frozen=True, slots=True)
class Goal:
    """What a run has to reach.

    Attributes:
        fraction: Share of the frozen order that gets true new vectors.
        projects: Whether every other point gets a projected vector.
        max_quarantined: Largest share of the points that may turn out impossible to embed.
    """

    fraction: float
    projects: bool
    max_quarantined: float


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a run, for whoever shows it: points of this pass done and to do, run's counts."""

    stage: Stage
    done: int
    total: int
    counts: Counts


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        record: The journal's record at the end.
        counts: What this run did.
        left: Points that the last sweep still found changing under it.
        quarantined: Point id -> why it cannot be embedded.
        stopped: Why the run stopped early, "" if it went to its end.
        seconds: Working time of this run.
    """

    record: MigrationRecord
    counts: Counts
    left: int
    quarantined: dict[PointId, str]
    stopped: str
    seconds: float


class Known(Protocol):
    """New vectors that were paid for earlier."""

    def find(self, hashes: Sequence[str]) -> tuple[Vectors, npt.NDArray[np.bool_]]:
        """Look up by content hash; returns (n, d) vectors and which rows were found."""
        ...


@dataclass(slots=True)
class Backfill:
    """One run of a migration's backfill over its parts.

    Attributes:
        gallery: The migrating collection.
        journal: Keeper of the record; the caller holds its lease.
        record: Where the migration stands; advanced by the run.
        goal: What to reach.
        order: Makes or reloads the frozen order of re-encoding: ids, and the digest of the order.
        modality: What the new vectors embed.
        encoder: The new model; None where nothing is encoded.
        projector: Old -> new; None where nothing is projected.
        known: New vectors paid for earlier.
        batch_size: Points per batch.
        on_progress: Called after each batch.
        should_stop: Asked after each batch; a reason stops the run, "" lets it go on.
    """

    gallery: Gallery
    journal: Journal
    record: MigrationRecord
    goal: Goal
    order: Callable[[], tuple[Sequence[PointId], str]]
    modality: Modality
    encoder: Encoder | None
    projector: Projector | None
    known: Known
    batch_size: int
    on_progress: Callable[[Progress], None]
    should_stop: Callable[[], str]
    counts: Counts = field(default_factory=Counts)
    quarantined: dict[PointId, str] = field(default_factory=dict)
    stopped: str = ""
    _points: int = 0
    _ticked: float = field(default_factory=time.monotonic)

    def run(self) -> Outcome:
        """Go on from the record until the goal is reached or something asks to stop.

        A failure leaves the record in phase `paused`, where it can still be stored, and is raised.

        Raises:
            GateError: More points than allowed cannot be embedded.
            XbtMigrateError: A part failed; a later run goes on from here.
        """
        seconds_before = self.record.seconds
        self._points = self.gallery.count()
        self.record = replace(self.record.moved_to(Phase.BACKFILLING), fraction=self.goal.fraction)
        left = 0
        try:
            self._advance()
            if not self.stopped and self.goal.projects and self._projecting:
                self._project_all()
            if not self.stopped and self.goal.fraction > 0:
                self._encode_in_order()
            if not self.stopped:
                left = self._sweep()
            self._finish(Phase.PAUSED if self.stopped or left else Phase.BACKFILLED)
        except XbtMigrateError:
            with contextlib.suppress(XbtMigrateError):
                self._finish(Phase.PAUSED)
            raise
        spent = self.record.seconds - seconds_before
        return Outcome(self.record, self.counts, left, self.quarantined, self.stopped, spent)

    @property
    def _projecting(self) -> bool:
        return self.record.stage in (None, Stage.PROJECT)

    def _project_all(self) -> None:
        """Give every point without a valid new vector a projected one, in the store's own order."""
        done = 0
        for batch in self.gallery.read({"source", "old"}, after=self.record.cursor):
            self._project(batch.filter(pc.is_null(batch["kind"])))
            done += len(batch)
            self._advance(stage=Stage.PROJECT, cursor=batch["id"][-1].as_py())
            self._report(Stage.PROJECT, done, self._points)
            if self.stopped:
                return
        self._advance(stage=Stage.ENCODE)

    def _encode_in_order(self) -> None:
        """Encode the first share of the frozen order; what is already encoded is passed over."""
        ids, digest = self.order()
        if digest != self.record.order_digest:
            self.record = replace(self.record, order_digest=digest, position=0)
        total = self._places(len(ids))
        while self.record.position < total and not self.stopped:
            chunk = ids[self.record.position : min(self.record.position + self.batch_size, total)]
            present = 0
            for batch in self.gallery.read({"source"}, ids=chunk):
                present += len(batch)
                self._encode(batch.filter(_not_encoded(batch)))
            self._count(vanished=len(chunk) - present)
            self._advance(stage=Stage.ENCODE, position=self.record.position + len(chunk))
            self._report(Stage.ENCODE, self.record.position, total)

    def _sweep(self) -> int:
        """Complete what arrived or changed behind the passes; returns what the last look found."""
        wanting = 0
        for _ in range(SWEEP_PASSES):
            wanting = seen = 0
            for batch in self._swept():
                wanting += self._complete(batch)
                seen += len(batch)
                self._advance(stage=Stage.SWEEP)
                self._report(Stage.SWEEP, seen, self._points)
                if self.stopped:
                    return wanting
            wanting += self.gallery.prune()
            if wanting == 0:
                break
        return wanting

    def _swept(self) -> Iterator[pa.RecordBatch]:
        """Batches of the points the goal covers."""
        if self.goal.projects or self.goal.fraction >= 1:
            yield from self.gallery.read({"source"})
            return
        ids, _ = self.order()
        target = ids[: self._places(len(ids))]
        for start in range(0, len(target), self.batch_size):
            yield from self.gallery.read({"source"}, ids=target[start : start + self.batch_size])

    def _complete(self, batch: pa.RecordBatch) -> int:
        """Do for each point of a swept batch what it still lacks; returns how many lacked it."""
        encodes = self.goal.fraction > 0
        all_encoded = self.goal.fraction >= 1 or not self.goal.projects
        lacking = _not_encoded(batch) if all_encoded else pc.is_null(batch["kind"])
        fresh = [point not in self.quarantined for point in batch["id"].to_pylist()]
        todo = batch.filter(pc.and_(lacking, pa.array(fresh, pa.bool_())))
        if len(todo) == 0:
            return 0
        for current in self.gallery.read({"source", "old"}, ids=todo["id"].to_pylist()):
            unprojected = pc.is_null(current["kind"])
            if encodes:
                self._encode(current)
                unprojected = pc.and_(unprojected, pc.equal(current["content_hash"], ""))
            if self.projector:
                self._project(current.filter(unprojected))
        return len(todo)

    def _project(self, batch: pa.RecordBatch) -> None:
        """Write projected vectors for the points of a batch that have an old vector."""
        assert self.projector is not None
        self._quarantine(batch.filter(pc.is_null(batch["old"])), "it has no old vector")
        batch = batch.filter(pc.is_valid(batch["old"]))
        if len(batch):
            self._write(batch, self.projector.apply(vectors_of(batch, "old")), Kind.PROJECTED)

    def _encode(self, batch: pa.RecordBatch) -> None:
        """Write true new vectors for the points of a batch that have a source."""
        missing = pc.equal(batch["content_hash"], "")
        found = self._quarantine(batch.filter(missing), f"its payload has no {self.modality}")
        self._count(missing_source=found)
        batch = batch.filter(pc.invert(missing))
        vectors, valid = self.known.find(batch["content_hash"].to_pylist())
        if valid.any():
            self._write(batch.filter(pa.array(valid)), vectors[valid], Kind.ENCODED)
        batch = batch.filter(pa.array(~valid))
        while len(batch):
            try:
                self._write(batch, self._vectors(batch), Kind.ENCODED)
                break
            except UnreadableSourceError as error:
                rows = np.zeros(len(batch), np.bool_)
                rows[list(error.failures)] = True
                for row, reason in error.failures.items():
                    self._quarantine(batch.slice(row, 1), reason)
                self._count(failed=len(error.failures))
                batch = batch.filter(pa.array(~rows))

    def _vectors(self, batch: pa.RecordBatch) -> Vectors:
        assert self.encoder is not None
        items = batch[self.modality.value].to_pylist()
        return self.encoder.encode(items, self.modality, ids=batch["id"].to_pylist())

    def _write(self, batch: pa.RecordBatch, vectors: Vectors, kind: Kind) -> None:
        names = ["id", "content_hash", "new"]
        columns = [batch["id"], batch["content_hash"], vector_array(vectors)]
        result = self.gallery.write(pa.RecordBatch.from_arrays(columns, names), kind)
        self._count(**{kind.value: len(result.written)}, vanished=len(result.vanished))

    def _quarantine(self, batch: pa.RecordBatch, reason: str) -> int:
        """Note points that cannot be done; returns how many were not noted before.

        Raises:
            GateError: They are more than the goal allows.
        """
        known = len(self.quarantined)
        self.quarantined.update(dict.fromkeys(batch["id"].to_pylist(), reason))
        if len(self.quarantined) > self.goal.max_quarantined * self._points:
            point, why = next(iter(self.quarantined.items()))
            raise GateError(
                f"{len(self.quarantined)} of {self._points} points cannot be embedded "
                f"(for example point {point}: {why})",
                "correct their payload and run the same command again, "
                "or raise plan.max_missing and plan again",
            )
        return len(self.quarantined) - known

    def _places(self, ordered: int) -> int:
        return min(ordered, math.ceil(self.goal.fraction * ordered))

    def _count(self, **numbers: int) -> None:
        done = Counts(**numbers)
        self.counts = self.counts.plus(done)
        self.record = replace(self.record, counts=self.record.counts.plus(done))

    def _advance(
        self,
        stage: Stage | None = None,
        cursor: PointId | None = None,
        position: int | None = None,
    ) -> None:
        """Store how far the run came, then ask whether to go on."""
        self.record = replace(
            self.record,
            stage=stage or self.record.stage,
            cursor=cursor or self.record.cursor,
            position=self.record.position if position is None else position,
        )
        self._store()
        self.stopped = self.stopped or self.should_stop()

    def _finish(self, phase: Phase) -> None:
        self.record = self.record.moved_to(phase)
        self._store()

    def _store(self) -> None:
        now = time.monotonic()
        self.record = replace(self.record, seconds=self.record.seconds + now - self._ticked)
        self._ticked = now
        self.journal.save(self.record)

    def _report(self, stage: Stage, done: int, total: int) -> None:
        self.on_progress(Progress(stage, done, total, self.counts))


def _not_encoded(batch: pa.RecordBatch) -> pa.Array:
    return pc.fill_null(pc.not_equal(batch["kind"], Kind.ENCODED.value), fill_value=True)
