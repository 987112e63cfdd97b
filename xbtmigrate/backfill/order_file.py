"""Write and read the frozen order of re-encoding: a file, since it may not fit into memory.

Batches arrive in any order. Runs of 250,000 points are sorted in memory, spilled beside the file
and merged into it; at most one run, or one block of each run, is in memory at a time.
"""

from __future__ import annotations

import hashlib
import heapq
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain, islice, pairwise
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xbtmigrate.files import UNSEALED
from xbtmigrate.types import PointId

RUN = 250_000
"""Points sorted in memory at a time."""
# At 52 bytes a point, a billion points (4,000 runs) take 213 MB (docs/benchmarks-data-path.md).
BLOCK = 1_024
"""Points of each run that the merge holds in memory."""
GROUP = 65_536
"""Points in a row group of the file, and so in one read."""
UNPAID = 2**63
"""Smallest sort key of a point without a cached vector."""
LAST = 2**31 - 1
"""Place of the points that come after those of every tenant with a place of its own."""
_SCORED = pa.schema([("key", pa.uint64()), ("id", pa.string()), ("score", pa.float32())])
# Ids break ties, so equal scores give the same order in every run.
_KEYS = [("key", "ascending"), ("id", "ascending")]


def make_sortable(
    ids: Sequence[PointId],
    scores: np.ndarray,
    paid: np.ndarray,
    places: np.ndarray | None = None,
) -> pa.RecordBatch:
    """Build a batch with its sort key: paid for first, then by place, descending score, and id.

    Args:
        ids: n point ids.
        scores: float32 (n,). NaN (no old vector, so nothing to project) ranks before every number.
        paid: bool (n,), whether a point's new vector is already paid for.
        places: integers (n,) from 0 to `LAST`: the place of each point's tenant; None for one
            place for all.
    """
    # Adding 0 turns -0.0 into 0.0: they are equal, but their bits would sort apart.
    priority = np.where(np.isnan(scores), np.inf, scores + 0).astype("<f4")
    bits = priority.view("<u4")
    # As integers, floats sort by size once the sign is flipped (Herf 2001, "Radix tricks").
    rising = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)
    # One integer sorts by all: bit 63 is set if unpaid, 31 bits are the place, 32 fall as scores
    # rise.
    key = (np.uint64(2**32 - 1) - rising) | (~paid).astype(np.uint64) << np.uint64(63)
    if places is not None:
        key |= places.astype(np.uint64) << np.uint64(32)
    return pa.record_batch([key, pa.array(ids, pa.string()), priority], schema=_SCORED)


def write_sorted(
    path: Path, batches: Iterable[pa.RecordBatch], name: str, tenants: str = ""
) -> None:
    """Write the order of all points to a Parquet file, first to be encoded first.

    Args:
        path: The file.
        batches: What `make_sortable` built, in any order.
        name: Name of the ordering, kept in the file.
        tenants: What put the tenants in order, kept too; "" where they are in none.
    """
    # Without the key, which follows from the score and `paid`.
    columns = [*list(_SCORED)[1:], pa.field("paid", pa.bool_())]
    schema = pa.schema(columns, metadata={"ordering": name, "tenants": tenants, **UNSEALED})
    with (
        tempfile.TemporaryDirectory(prefix=".sorting-", dir=path.parent) as folder,
        pq.ParquetWriter(path, schema) as writer,
    ):
        # Sorted here, not by DuckDB: merging 4 million points takes 6 s of CPU and 155 MiB, nothing
        # beside encoding them, and 40 lines do not justify another large dependency.
        spill = Path(folder) / "runs.arrow"
        ends = _spill(spill, _sort_runs(batches))
        with pa.OSFile(str(spill)) as source, pa.ipc.open_file(source) as reader:
            runs = [map(reader.get_batch, range(*each)) for each in pairwise([0, *ends])]
            for group in _merge(runs):
                paid = pc.less(group["key"], pa.scalar(UNPAID, pa.uint64()))
                table = group.select(["id", "score"]).append_column("paid", paid)
                writer.write_table(table, row_group_size=GROUP)


@dataclass(frozen=True)
class OrderedIds(Sequence[PointId]):
    """The ids of an order file, or a slice of them; at most one row group is held."""

    rows: range
    _file: pq.ParquetFile
    _starts: Sequence[int]
    _held: dict[int, list[PointId]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> OrderedIds:
        """Open all of a file.

        Raises:
            OSError, ValueError, pa.ArrowException: It cannot be read, or is not an order file.
        """
        file = pq.ParquetFile(path)
        if file.schema_arrow.names != ["id", "score", "paid"]:
            raise ValueError(f"its columns are {', '.join(file.schema_arrow.names)}")
        facts = file.metadata
        sizes = [facts.row_group(number).num_rows for number in range(facts.num_row_groups)]
        # With the first row of each row group, to find the group of a row by bisection.
        return cls(range(facts.num_rows), file, [0, *accumulate(sizes)][:-1])

    @property
    def name(self) -> str:
        """Name of the ordering.

        Raises:
            KeyError, TypeError: The file does not name it.
        """
        found: bytes = self._file.schema_arrow.metadata[b"ordering"]
        return found.decode()

    @property
    def tenants(self) -> str:
        """What put the tenants in order; "" where they are in none."""
        found: bytes = self._file.schema_arrow.metadata.get(b"tenants", b"")
        return found.decode()

    def __len__(self) -> int:
        """Number of ids."""
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> PointId: ...
    @overload
    def __getitem__(self, place: slice) -> OrderedIds: ...
    def __getitem__(self, place: int | slice) -> PointId | OrderedIds:
        """Return one id, or a slice that reads from the same open file."""
        if isinstance(place, slice):
            return replace(self, rows=self.rows[place])
        row = self.rows[place]
        group = bisect_right(self._starts, row) - 1
        return self._group(group)[row - self._starts[group]]

    def __iter__(self) -> Iterator[PointId]:
        """Yield the ids in order, a row group at a time."""
        starts = range(0, len(self), GROUP)
        return chain.from_iterable(self.chunk(start, start + GROUP) for start in starts)

    def chunk(self, start: int, stop: int) -> list[PointId]:
        """Return the ids from `start` up to `stop` as a list, fewer at the end of the order."""
        # A row group at a time: `__getitem__` would search the groups once for each id.
        rows = self.rows[start:stop]
        ids: list[PointId] = []
        row = rows.start
        while row < rows.stop:
            group = bisect_right(self._starts, row) - 1
            first = self._starts[group]
            part = self._group(group)[row - first : rows.stop - first : rows.step]
            ids += part
            row += len(part) * rows.step
        return ids

    def digest(self) -> str:
        """Hash the ids in their order."""
        digest = hashlib.sha256()
        for group in self._file.iter_batches(GROUP, columns=["id"]):
            # Ids are digits or UUIDs and contain no newline, so the joined text is unambiguous.
            digest.update("\n".join(group["id"].to_pylist()).encode() + b"\n")
        return digest.hexdigest()

    def _group(self, number: int) -> list[PointId]:
        held = self._held.get(number)
        if held is None:
            held = self._file.read_row_group(number, columns=["id"])["id"].to_pylist()
            # The run reads the order from front to back: an earlier row group is not needed again.
            self._held.clear()
            self._held[number] = held
        return held


def _sort_runs(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Gather batches into runs and sort each run in memory."""
    gathered: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        gathered.append(batch)
        rows += len(batch)
        if rows >= RUN:
            yield pa.Table.from_batches(gathered, _SCORED).sort_by(_KEYS)
            gathered, rows = [], 0
    # Also where it is empty: an empty collection gets an order file like any other.
    yield pa.Table.from_batches(gathered, _SCORED).sort_by(_KEYS)


def _spill(path: Path, runs: Iterable[pa.Table]) -> list[int]:
    """Write the runs one after another, in blocks; returns the block number where each ends."""
    ends = [0]
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, _SCORED) as writer:
        for run in runs:
            blocks = run.combine_chunks().to_batches(BLOCK)
            for block in blocks:
                writer.write_batch(block)
            ends.append(ends[-1] + len(blocks))
    return ends[1:]


def _merge(runs: Iterable[Iterable[pa.RecordBatch]]) -> Iterator[pa.Table]:
    """Yield all rows of sorted runs in order, in tables of `GROUP` rows, the last one shorter."""
    # Tuples compare by key and then id, as the runs are sorted; blocks are decoded one at a time.
    rows = heapq.merge(*map(_rows, runs))
    while group := list(islice(rows, GROUP)):
        yield pa.table(list(zip(*group, strict=True)), schema=_SCORED)


def _rows(blocks: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, PointId, float]]:
    for block in blocks:
        yield from zip(*(column.to_pylist() for column in block.columns), strict=True)
