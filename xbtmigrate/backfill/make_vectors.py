"""Make new vectors for the points of a batch, and mark points that can get none.

A point is encoded if the run encodes, else projected. If neither is possible, it is marked with the
reason: without the mark a shadow would lack it, and every sweep would find it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xbtmigrate.backfill.equal_contents import RecentVectors, find_distinct
from xbtmigrate.backfill.goal import VectorLookup
from xbtmigrate.backfill.pipeline import WorkQueue
from xbtmigrate.backfill.step_times import Step, StepTimes
from xbtmigrate.errors import GateError, UnreadableSourceError
from xbtmigrate.migration.phases import Counts
from xbtmigrate.protocols import Encoder, Gallery, Projector, Written
from xbtmigrate.types import (
    WITHOUT,
    Kind,
    Modality,
    PointId,
    Vectors,
    given_columns,
    given_of,
    has_given,
    keep_given,
    usable,
    vector_array,
)

REASONS = {
    Kind.NO_CONTENT: "its payload has nothing to embed",
    Kind.REFUSED: "the encoder refuses its content",
    Kind.NO_OLD_VECTOR: "it has no usable old vector",
}


@dataclass(slots=True)
class VectorMaker:
    """Makes and writes the new vectors of one run.

    Attributes:
        gallery: The migrating collection.
        modality: What the new vectors embed.
        encoder: The new model; None where nothing is encoded.
        projector: Old -> new; None where nothing is projected.
        cache: New vectors paid for earlier.
        batch_size: Points per batch.
        later: Does the writes.
        times: Measures where the time goes.
        on_written: Called with what became of each write of vectors.
        most_quarantined: Points that may turn out impossible to embed.
        points: Points of the collection.
        quarantined: Point id -> why it cannot be embedded.
        refused: Points and content hashes that the encoder has refused in this run.
        recent: The vectors that were encoded last; None before the first.
    """

    gallery: Gallery
    modality: Modality
    encoder: Encoder | None
    projector: Projector | None
    cache: VectorLookup
    batch_size: int
    later: WorkQueue
    times: StepTimes
    on_written: Callable[[Written, Kind], None]
    most_quarantined: int
    points: int
    quarantined: dict[PointId, str]
    # Kept with the content hash: a point whose content changes during the run is tried again.
    refused: set[tuple[PointId, str]] = field(default_factory=set)
    recent: RecentVectors | None = None
    _noted: Counts = field(default_factory=Counts)

    def complete(self, batch: pa.RecordBatch, *, encodes: bool) -> int:
        """Encode, project or mark each point of a batch.

        Args:
            batch: The points, with source, kind and what is projected.
            encodes: Whether the run encodes.

        Returns:
            Points that were as they should be already.
        """
        rest = batch
        if encodes:
            self.encode(batch)
            # After encoding: points that the encoder has just refused are projected instead.
            rest = batch.filter(pc.invert(self.encodable(batch)))
        return self._settle(rest, encodes=encodes)

    def note(self, counts: Counts) -> None:
        """Count events that no write reports, such as a missing source."""
        self._noted = self._noted.plus(counts)

    def take_noted(self) -> Counts:
        """Return what was noted since the last call."""
        noted, self._noted = self._noted, Counts()
        return noted

    def _settle(self, batch: pa.RecordBatch, *, encodes: bool) -> int:
        """Project points that cannot be encoded, or mark why they get no new vector.

        Without that mark a shadow would lack them, and every sweep would find them again.

        Returns:
            Points that are as they should be already.
        """
        pending = batch.filter(pc.or_(pc.is_null(batch["kind"]), is_without(batch)))
        done = len(batch) - len(pending)
        if self.projector is not None:
            pending = self.project(pending)
        for kind, rows in _reasons(pending, encodes=encodes).items():
            part = pending.filter(rows)
            # A point with the mark already counts as done; writing it again would be work in
            # every sweep, and none would end clean.
            new = part.filter(pc.not_equal(pc.fill_null(part["kind"], ""), kind.value))
            done += len(part) - len(new)
            self._quarantine(part, REASONS[kind])
            if len(new):
                self._write(new, kind)
        return done

    def project(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Write projected vectors; returns the points of a batch that have no usable one."""
        assert self.projector is not None
        given = keep_given(batch)
        if not len(given):
            return batch
        with self.times.time(Step.PROJECT):
            made = self.projector.apply(*given_of(given))
        unfit = self._write_made(given, made, Kind.PROJECTED)
        # Finite input can still give an unusable output, for example a zero vector.
        left = pc.or_(pc.invert(has_given(batch)), pc.is_in(batch["id"], unfit["id"]))
        return batch.filter(left)

    def encode(self, batch: pa.RecordBatch) -> None:
        """Write true new vectors for the points of a batch that have a source."""
        missing = pc.is_null(batch[self.modality.value])
        found = self._quarantine(batch.filter(missing), f"its payload has no {self.modality}")
        self.note(Counts(missing_source=found))
        batch = batch.filter(self.encodable(batch))
        # Cached vectors need no encoder.
        vectors, valid = self.cache.find(batch["content_hash"].to_pylist())
        if valid.any():
            self._write_encoded(batch.filter(pa.array(valid)), vectors[valid])
        batch = batch.filter(pa.array(~valid))
        # Halves: one is encoded while the other is written, so a kill loses at most a batch of
        # encoded vectors. With a batch size of 1 a half is all, and nothing may wait.
        half = max(1, self.batch_size // 2)
        for start in range(0, len(batch), half):
            self.later.wait_below(min(2, self.batch_size))
            self._encode_readable(batch.slice(start, half))

    def _encode_readable(self, batch: pa.RecordBatch) -> None:
        """Encode a batch, leaving out the items that cannot be embedded."""
        while len(batch):
            firsts, places = find_distinct(batch["content_hash"].to_pylist())
            try:
                vectors = self._encode_once(batch.take(pa.array(firsts)))
                self._write_encoded(batch, vectors[places])
                break
            # The error names the items that cannot be embedded: try again without them.
            except UnreadableSourceError as error:
                lost = np.isin(places, [*error.failures])
                for row in np.flatnonzero(lost).tolist():
                    self.refused.update(_contents(batch.slice(row, 1)))
                    self._quarantine(batch.slice(row, 1), error.failures[int(places[row])])
                self.note(Counts(failed=int(lost.sum())))
                batch = batch.filter(pa.array(~lost))

    def _encode_once(self, batch: pa.RecordBatch) -> Vectors:
        """Return vectors of distinct contents, of which the run's latest are remembered.

        Raises:
            UnreadableSourceError: Rows of the batch cannot be embedded.
        """
        assert self.encoder is not None
        if self.recent is None:
            self.recent = RecentVectors(self.encoder.dimension)
        vectors, known = self.recent.find(batch["content_hash"].to_pylist())
        rows = np.flatnonzero(~known)
        if not len(rows):
            return vectors
        rest = batch.take(pa.array(rows))
        items, ids, hashes = (
            rest[name].to_pylist() for name in (self.modality.value, "id", "content_hash")
        )
        try:
            with self.times.time(Step.ENCODE):
                vectors[rows] = self.encoder.encode(items, self.modality, ids=ids)
        except UnreadableSourceError as error:
            failures = {int(rows[row]): reason for row, reason in error.failures.items()}
            raise UnreadableSourceError(failures) from error
        self.recent.add(hashes, vectors[rows])
        return vectors

    def encodable(self, batch: pa.RecordBatch) -> pa.Array:
        """Return which points have a source that the encoder has not refused in this run."""
        refused = [each in self.refused for each in _contents(batch)]
        return pc.and_not(pc.is_valid(batch[self.modality.value]), pa.array(refused, pa.bool_()))

    def _write_encoded(self, batch: pa.RecordBatch, vectors: Vectors) -> None:
        # An unusable vector counts as a refusal: the same content would give the same vector again.
        self.refused.update(_contents(self._write_made(batch, vectors, Kind.ENCODED)))

    def _write_made(self, batch: pa.RecordBatch, vectors: Vectors, kind: Kind) -> pa.RecordBatch:
        """Begin writing vectors; returns the points whose vectors cannot be compared."""
        fit = usable(vectors)
        unfit = batch.filter(pa.array(~fit))
        if len(unfit):
            reason = f"{kind.maker} made no usable vector for it"
            self.note(Counts(failed=self._quarantine(unfit, reason)))
            batch, vectors = batch.filter(pa.array(fit)), vectors[fit]
        if len(batch):
            self._write(batch.append_column("new", vector_array(vectors)), kind)
        return unfit

    def _write(self, batch: pa.RecordBatch, kind: Kind) -> None:
        # A projected vector's mark names the old vector; an encoded one depends on content only.
        given = [] if kind is Kind.ENCODED else given_columns(batch)
        made = [] if kind in WITHOUT else ["new"]
        whole = batch.select(["id", "content_hash", *given, *made])
        # At most two writes are in progress, one per thread; another batch waits here.
        self.later.wait_below(2)
        written = self.later.begin(partial(self._send, whole, kind))
        # Counted by `do`, in one thread at a time, and only after the write was applied.
        if kind not in WITHOUT:
            self.later.do(lambda: self.on_written(written.result(), kind))
        else:
            self.later.do(written.result)

    def _send(self, batch: pa.RecordBatch, kind: Kind) -> Written:
        with self.times.time(Step.WRITE):
            return self.gallery.write(batch, kind)

    def _quarantine(self, batch: pa.RecordBatch, reason: str) -> int:
        return self.set_aside(dict.fromkeys(batch["id"].to_pylist(), reason))

    def set_aside(self, reasons: Mapping[PointId, str]) -> int:
        """Record points that cannot be embedded, and why; returns how many are new.

        Raises:
            GateError: They are more than the goal allows.
        """
        known = len(self.quarantined)
        # Every sweep meets the same points: the first reason stays, and none is counted twice.
        for point, reason in reasons.items():
            self.quarantined.setdefault(point, reason)
        # This many failures mean a wrong field or model rather than a few bad points.
        if len(self.quarantined) > self.most_quarantined:
            point, why = next(iter(self.quarantined.items()))
            raise GateError(
                f"{len(self.quarantined)} of {self.points} points cannot be embedded "
                f"(for example point {point}: {why})",
                "correct them or raise plan.max_missing, then run the same command again",
            )
        return len(self.quarantined) - known


def is_without(batch: pa.RecordBatch) -> pa.Array:
    """Return which points are marked as getting no new vector."""
    return pc.is_in(batch["kind"], pa.array([kind.value for kind in WITHOUT]))


def _reasons(batch: pa.RecordBatch, *, encodes: bool) -> dict[Kind, pa.Array]:
    """Return which points get no vector: for each reason, a boolean array."""
    if not encodes:
        return {Kind.NO_OLD_VECTOR: pc.is_valid(batch["id"])}
    empty = pc.equal(batch["content_hash"], "")
    return {Kind.NO_CONTENT: empty, Kind.REFUSED: pc.invert(empty)}


def _contents(batch: pa.RecordBatch) -> Iterator[tuple[PointId, str]]:
    return zip(batch["id"].to_pylist(), batch["content_hash"].to_pylist(), strict=True)
