"""Record some points before the first write, to tell later what changed them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.migration.plan import Plan
from xbtmigrate.protocols import Gallery, Written
from xbtmigrate.qdrant.gallery.baseline import (
    BaselineChanges,
    compare,
    part_of,
    read_baseline,
    update_baseline,
)
from xbtmigrate.qdrant.gallery.remove import distrust
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.types import Kind, Layout, PointId
from xbtmigrate.workflows.store import Store


def read_baseline_points(connection: Connection, plan: Plan, ids: Sequence[PointId]) -> pa.Table:
    """Read some points of the source: a hash of each payload, and every vector but the new one."""
    in_place = plan.target.layout is Layout.IN_PLACE
    # In place the new vector lies on the same points, and it is meant to change.
    without = plan.target.vector if in_place else None
    return read_baseline(connection, plan.collection.name, ids, without)


def compare_with_baseline(store: Store, artefacts: Artefacts, plan: Plan) -> BaselineChanges | None:
    """Compare the points recorded while planning with their present state; None without a record.

    The tool only reads the source of a shadow. In place, a new vector that was projected from the
    present old ones was made after they were replaced, and so will one that is still due.
    The mark of an encoded vector does not name the old ones, so their cause stays open there.
    """
    before = artefacts.load_baseline()
    if before is None:
        return None
    found = compare(before, read_baseline_points(store.connection, plan, before["id"].to_pylist()))
    if plan.target.layout is Layout.SHADOW:
        # The tool never writes to the source of a shadow: every change is an application's.
        return found.explain(found.vectors_changed)
    # The gallery derives `kind` from the marks, which name the old vector of a projected point.
    batches = store.gallery(plan).read({"kind"}, ids=found.vectors_changed)
    kinds = {
        point: kind
        for batch in batches
        for point, kind in zip(batch["id"].to_pylist(), batch["kind"].to_pylist(), strict=True)
    }
    return found.explain([each for each, kind in kinds.items() if kind != Kind.ENCODED])


def refresh_baseline(
    connection: Connection, artefacts: Artefacts, plan: Plan, ids: Sequence[PointId]
) -> None:
    """Replace the recorded state of some of the baseline's points by the present one."""
    before = artefacts.load_baseline()
    if before is not None and ids:
        now = read_baseline_points(connection, plan, ids)
        artefacts.save_baseline(update_baseline(before, now, ids))


def distrust_replaced(store: Store, artefacts: Artefacts, plan: Plan) -> None:
    """Make encoded points whose old vectors were replaced due again."""
    found = compare_with_baseline(store, artefacts, plan)
    # The mark of an encoded vector does not name the old one, so no pass would notice.
    if found is not None and found.vectors_changed:
        distrust(store.connection, plan.target, found.vectors_changed)


def watch_baseline(
    connection: Connection,
    plan: Plan,
    before: pa.Table | None,
    gallery: Gallery,
    keep: Callable[[pa.Table], None],
) -> Gallery:
    """Return a gallery that notices when applications replace old vectors between its writes.

    Args:
        connection: The open Qdrant.
        plan: The plan.
        before: The baseline; None for none.
        gallery: The points.
        keep: Called before a write with those of the baseline's points, as they are now, whose
            old vectors were replaced.
    """
    # A shadow needs no watch: `compare_with_baseline` explains all changes of its source.
    if before is None or plan.target.layout is Layout.SHADOW:
        return gallery
    return _WatchedGallery(gallery, connection, plan, before, set(before["id"].to_pylist()), keep)


def keep_replaced(artefacts: Artefacts, now: pa.Table) -> None:
    """Replace rows of the recorded baseline."""
    before = artefacts.load_baseline()
    if before is not None:
        artefacts.save_baseline(update_baseline(before, now, now["id"].to_pylist()))


@dataclass(slots=True)
class _WatchedGallery:
    """A gallery that compares the baseline's points with their record before it writes them.

    What has changed there before a write was changed by an application, so it is what the point is
    compared with from then on. What changes by a write is found by the next verification.
    """

    gallery: Gallery
    connection: Connection
    plan: Plan
    before: pa.Table
    ids: set[PointId]
    keep: Callable[[pa.Table], None]
    # The loop writes two batches at a time, from separate threads.
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, kind: Kind | None = None) -> int:
        """Count exactly."""
        return self.gallery.count(kind)

    def read(
        self,
        columns: Collection[str],
        *,
        ids: Sequence[PointId] | None = None,
        after: PointId | None = None,
        expected: Kind | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Yield batches of points."""
        return self.gallery.read(columns, ids=ids, after=after, expected=expected)

    def write(self, batch: pa.RecordBatch, kind: Kind) -> Written:
        """Store `new` with its provenance, after comparing the old vectors."""
        # Before the write: afterwards, a fault of the tool would look like an application's change.
        ids = [each for each in batch["id"].to_pylist() if each in self.ids]
        if ids:
            self._look(ids)
        return self.gallery.write(batch, kind)

    def prune(self) -> int:
        """Remove from a shadow the points that left the source."""
        return self.gallery.prune()

    def _look(self, ids: Sequence[PointId]) -> None:
        now = read_baseline_points(self.connection, self.plan, ids)
        with self.lock:
            replaced = compare(part_of(self.before, ids), now).vectors_changed
            if replaced:
                self.before = update_baseline(self.before, now, replaced)
                self.keep(part_of(now, replaced))
