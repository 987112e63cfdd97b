"""Record some points before the first write, and compare them later. Reads only."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xbtmigrate.qdrant.collection.facts import page_within
from xbtmigrate.qdrant.gallery.provenance import whole_hash
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.points import Sparse, Vector
from xbtmigrate.qdrant.wire.reader import Reader
from xbtmigrate.types import PointId

_PAGE = 50


@dataclass(frozen=True, slots=True)
class BaselineChanges:
    """How many points are unchanged, and which have changed since the baseline.

    Attributes:
        points: Points that were looked at before the first write.
        same: Those whose payload and old vectors are to the bit as they were.
        rounded: Those whose old vectors differ in the last digit, as the embedded mode rounds when
            it stores a point again.
        changed: Those whose payload is another one: by an application, or by a fault.
        gone: Those that are no longer there.
        replaced: Those whose payload is the same and whose old vectors are others, which an
            application has put there: the tool has only read the place, or has made the new vector
            from them.
        vectors_changed: Those whose payload is the same and whose old vectors are others, by an
            application or by a fault.
    """

    points: int = 0
    same: int = 0
    rounded: int = 0
    changed: int = 0
    gone: int = 0
    replaced: list[PointId] = field(default_factory=list)
    vectors_changed: list[PointId] = field(default_factory=list)

    def explain(self, ids: Collection[PointId]) -> BaselineChanges:
        """Return these changes with those of `ids` attributed to the application."""
        found = [each for each in self.vectors_changed if each in ids]
        left = [each for each in self.vectors_changed if each not in ids]
        return replace(self, replaced=[*self.replaced, *found], vectors_changed=left)


def read_baseline(
    connection: Connection, collection: str, wanted: Sequence[PointId], without: str | None
) -> pa.Table:
    """Keep the vectors and a hash of the payload of some points.

    Args:
        connection: The open Qdrant.
        collection: Real name of the source.
        wanted: The points.
        without: Name of the new vector in place, which is not looked at; None in a shadow.

    Returns:
        Columns id, payload (hash, without the tool's own key) and vectors (all but the new one).
    """
    reader = Reader(connection, collection, page_within(connection, collection, _PAGE))
    ids: list[PointId] = []
    payloads: list[str] = []
    vectors: list[bytes] = []
    # All vectors, because a fault in one that is not migrated must show too.
    for page in reader.select(wanted, after=None, payload=True, vectors=True):
        ids += page.ids
        payloads += [whole_hash(payload) for payload in page.payloads]
        vectors += [_packed(each, without) for each in page.vectors]
    columns = {
        "id": pa.array(ids, pa.string()),
        "payload": pa.array(payloads, pa.string()),
        "vectors": pa.array(vectors, pa.binary()),
    }
    return pa.table(columns)


def compare(before: pa.Table, now: pa.Table) -> BaselineChanges:
    """Compare the points of an earlier baseline with the present ones."""
    present = {point: (payload, vectors) for point, payload, vectors in _rows(now)}
    counts: Counter[str] = Counter()
    vectors_changed = []
    for point, payload, vectors in _rows(before):
        if point not in present:
            counts["gone"] += 1
        # Vectors of a point with a new payload are not compared: an application has written it.
        elif present[point][0] != payload:
            counts["changed"] += 1
        elif present[point][1] == vectors:
            counts["same"] += 1
        # The embedded mode normalizes a cosine vector again when it stores its point again.
        elif _is_rounded(vectors, present[point][1]):
            counts["rounded"] += 1
        else:
            vectors_changed.append(point)
    return BaselineChanges(
        points=len(before),
        same=counts["same"],
        rounded=counts["rounded"],
        changed=counts["changed"],
        gone=counts["gone"],
        vectors_changed=vectors_changed,
    )


def part_of(look: pa.Table, ids: Collection[PointId]) -> pa.Table:
    """Return the rows of a baseline for some points."""
    return look.filter(pc.is_in(look["id"], pa.array(ids, pa.string())))


def update_baseline(before: pa.Table, now: pa.Table, ids: Collection[PointId]) -> pa.Table:
    """Return an earlier baseline with the present state of some points."""
    rest = before.filter(pc.invert(pc.is_in(before["id"], pa.array(ids, pa.string()))))
    return pa.concat_tables([rest, part_of(now, ids)])


def _rows(table: pa.Table) -> Iterable[tuple[PointId, str, bytes]]:
    return zip(*(table[name].to_pylist() for name in ("id", "payload", "vectors")), strict=True)


def _packed(vectors: Mapping[str, Vector], without: str | None) -> bytes:
    """Encode vectors as bytes: names and shapes, a line break, then the float32 values."""
    names, values = [], []
    # Sorted, because a server returns names in any order and bytes are compared.
    for name in sorted(vectors.keys() - {without}):
        vector = vectors[name]
        if isinstance(vector, Sparse):
            names.append(f"{name} {vector.indices.tolist()}")
        else:
            names.append(f"{name} {vector.shape}")
        values.append(vector.values if isinstance(vector, Sparse) else vector)
    return json.dumps(names).encode() + b"\n" + b"".join(each.tobytes() for each in values)


def _is_rounded(one: bytes, other: bytes) -> bool:
    (names, values), (other_names, other_values) = (
        each.split(b"\n", maxsplit=1) for each in (one, other)
    )
    # float32 has steps of 1.2e-7 near 1; a vector that was replaced differs by far more.
    return names == other_names and bool(
        np.allclose(np.frombuffer(values, "f4"), np.frombuffer(other_values, "f4"), atol=1e-6)
    )
