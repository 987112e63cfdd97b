"""The protections of a backfill, each of which can be taken out of a process that runs one.

What a suite does not see when it is missing, the suite does not test.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from xbtmigrate.backfill import loop
from xbtmigrate.errors import XbtMigrateError
from xbtmigrate.qdrant.gallery import in_place, provenance, shadow
from xbtmigrate.qdrant.gallery.provenance import PROVENANCE
from xbtmigrate.qdrant.journal import journal as journals
from xbtmigrate.qdrant.wire import connect, connection, reader, writer
from xbtmigrate.qdrant.wire.points import Page
from xbtmigrate.types import Kind, PointId


def _content() -> None:
    """A mark is true whatever the content is."""
    whole, name = provenance.whole_hash, provenance._name
    kinds = shadow.ShadowGallery._kinds

    def ignoring(self, page: Page, copies: Page, hashes: list[str]) -> pa.Array:
        made_from = [copy.get(PROVENANCE, {}).get("hash") for copy in copies.payloads]
        return kinds(self, page, copies, made_from)

    provenance._name = lambda point, _: name(point, "")
    shadow.ShadowGallery._kinds = ignoring
    shadow.whole_hash = lambda payload: whole({})


def _payload() -> None:
    """A copy is true whatever the payload but its content is."""
    shadow.whole_hash = lambda payload: ""


def _presence() -> None:
    """A mark is true also where the vector is missing, or is another one."""
    in_place.same_vectors = lambda entries, present: np.ones(len(entries), np.bool_)


def _vector() -> None:
    """A mark is true of whatever new vector is there: it names the content alone."""
    whole = in_place.sketch
    in_place.sketch = lambda name, rows: whole(name, rows) * (name == "old")


def _old_vector() -> None:
    """A projected vector is true whatever the old one is that it was made from."""
    in_place.GallerySettings.bound = lambda self, kind: {"new": self.new}
    shadow.same_vectors = lambda entries, present: np.ones(len(entries), np.bool_)


def _sweep() -> None:
    """The passes are the end."""
    loop.Backfill._sweep = lambda self: 0


def _one_sweep() -> None:
    """The first sweep is the last, whatever it found."""
    loop.SWEEP_PASSES = 1


def _vanished() -> None:
    """A batch with a point that is gone is an error."""

    def write(self, part: pa.RecordBatch, kind: Kind) -> list[PointId]:
        ids = part.column("id").to_pylist()
        self._send(part, kind, dict.fromkeys(ids))
        return ids

    in_place.InPlaceGallery._write_part = write


def _marks_first() -> None:
    """Vectors are written before their marks, for which nobody waits."""
    enqueue, update = writer.Writer.enqueue_payloads, writer.Writer.update_vectors
    held = []

    def later(self, *rest) -> None:
        update(self, *rest)
        enqueue(self, *held.pop())

    writer.Writer.enqueue_payloads = lambda self, *given: held.append(given)
    writer.Writer.update_vectors = later


def _wait() -> None:
    """What a server has taken in counts as written."""
    writer._APPLIED = writer._ENQUEUED
    connection._is_unconfirmed = lambda result: False


def _prune() -> None:
    """Copies of points that were deleted stay."""
    shadow.ShadowGallery.prune = lambda self: 0


def _lease() -> None:
    """Whoever comes takes the lease, and nobody looks whether it is still his."""
    journals.QdrantJournal._wait_until_free = lambda self, present: None


def _end_of_data() -> None:
    """An error while reading is the end of the data."""
    pages = reader.Reader.scroll

    def short(self, **asked):
        try:
            yield from pages(self, **asked)
        except XbtMigrateError:
            return

    reader.Reader.scroll = short
    connect.is_transient = lambda error: False


REMOVALS: dict[str, Callable[[], None]] = {
    "content hash": _content,
    "payload hash of a copy": _payload,
    "presence of the vector": _presence,
    "mark names the vector": _vector,
    "mark names the old vector": _old_vector,
    "sweep": _sweep,
    "more than one sweep": _one_sweep,
    "retry without the vanished": _vanished,
    "marks before vectors": _marks_first,
    "wait until applied": _wait,
    "prune": _prune,
    "lease": _lease,
    "an error is not the end": _end_of_data,
}
"""Protection -> what takes it out of this process."""


def remove(name: str) -> None:
    """Take one protection out of this process; "" takes none."""
    if name:
        REMOVALS[name]()
