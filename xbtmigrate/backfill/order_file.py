"""Adapter: an order of points that may be too long for memory: sorted on disk, read in slices.

What is sorted comes in batches. Runs of them are sorted in memory, written beside the file, and
merged into it block by block: at no time more than one run, or one block of each run, is held.
"""

from __future__ import annotations

import hashlib
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xbtmigrate.files import UNSEALED
from xbtmigrate.types import PointId

RUN = 1_000_000
"""Points sorted in memory at a time."""
BLOCK = 4_096
"""Points of each run that a merge holds."""
GROUP = 65_536
"""Points in a row group of the file, and so in one read."""
UNPAID = 2**32
"""Least key of a point whose new vector is not paid for."""
_SCORED = pa.schema([("key", pa.uint64()), ("id", pa.string()), ("score", pa.float32())])
_KEYS = [("key", "ascending"), ("id", "ascending")]


def scored(ids: Sequence[PointId], scores: np.ndarray, paid: np.ndarray) -> pa.RecordBatch:
    """Build a batch to be sorted: what is paid for first, then by descending score, then by id.

    Args:
        ids: n point ids.
        scores: float32 (n,). NaN (no old vector, so nothing to project) ranks before every number.
        paid: bool (n,), whether a point's new vector is already paid for.
    """
    priority = np.where(np.isnan(scores), np.inf, scores + 0).astype("<f4")
    bits = priority.view("<u4")
    # As integers, floats sort by size once the sign is turned around (Herf 2001, radix tricks).
    rising = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)
    key = (np.uint64(2**32 - 1) - rising) | (~paid).astype(np.uint64) << np.uint64(32)
    return pa.record_batch([key, pa.array(ids, pa.string()), priority], schema=_SCORED)


def write_sorted(path: Path, batches: Iterable[pa.RecordBatch], name: str) -> None:
    """Write the order of all points to a Parquet file, first to be encoded first.

    Args:
        path: The file.
        batches: What `scored` built, in any order.
        name: Name of the ordering, kept in the file.
    """
    columns = [*list(_SCORED)[1:], pa.field("paid", pa.bool_())]
    schema = pa.schema(columns, metadata={"ordering": name, **UNSEALED})
    with (
        tempfile.TemporaryDirectory(prefix=".sorting-", dir=path.parent) as folder,
        pq.ParquetWriter(path, schema) as writer,
    ):
        spill = Path(folder) / "runs.arrow"
        ends = _spill(spill, _runs(batches))
        with pa.OSFile(str(spill)) as source, pa.ipc.open_file(source) as reader:
            runs = [map(reader.get_batch, range(*each)) for each in pairwise([0, *ends])]
            for group in _regrouped(_merged(runs)):
                paid = pc.less(group["key"], pa.scalar(UNPAID, pa.uint64()))
                table = group.select(["id", "score"]).append_column("paid", paid)
                writer.write_table(table, row_group_size=GROUP)


@dataclass(frozen=True)
class OrderedIds(Sequence[PointId]):
    """The ids of an order file, or a slice of them; at most one row group is held."""

    path: Path
    rows: range
    _held: dict[int, list[PointId]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> OrderedIds:
        """Open all of a file.

        Raises:
            OSError, ValueError, pa.ArrowException: It cannot be read, or is none.
        """
        facts = pq.ParquetFile(path)
        if facts.schema_arrow.names != ["id", "score", "paid"]:
            raise ValueError(f"its columns are {', '.join(facts.schema_arrow.names)}")
        return cls(path, range(facts.metadata.num_rows))

    @property
    def name(self) -> str:
        """Name of the ordering.

        Raises:
            KeyError, TypeError: The file does not say.
        """
        found: bytes = self._file.schema_arrow.metadata[b"ordering"]
        return found.decode()

    def __len__(self) -> int:
        """Number of ids."""
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> PointId: ...
    @overload
    def __getitem__(self, place: slice) -> OrderedIds: ...
    def __getitem__(self, place: int | slice) -> PointId | OrderedIds:
        """Return one id, or a slice that reads from the same file."""
        if isinstance(place, slice):
            return OrderedIds(self.path, self.rows[place], self._held)
        row = self.rows[place]
        group = bisect_right(self._starts, row) - 1
        return self._group(group)[row - self._starts[group]]

    def __iter__(self) -> Iterator[PointId]:
        """Yield the ids in order."""
        return (self[place] for place in range(len(self)))

    def digest(self) -> str:
        """Hash the ids in their order."""
        digest = hashlib.sha256()
        for group in self._file.iter_batches(GROUP, columns=["id"]):
            digest.update("\n".join(group["id"].to_pylist()).encode() + b"\n")
        return digest.hexdigest()

    def _group(self, number: int) -> list[PointId]:
        held = self._held.get(number)
        if held is None:
            held = self._file.read_row_group(number, columns=["id"])["id"].to_pylist()
            self._held.clear()
            self._held[number] = held
        return held

    @cached_property
    def _starts(self) -> list[int]:
        facts = self._file.metadata
        sizes = [facts.row_group(number).num_rows for number in range(facts.num_row_groups)]
        return [0, *accumulate(sizes)][:-1]

    @cached_property
    def _file(self) -> pq.ParquetFile:
        return pq.ParquetFile(self.path)


def _runs(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Collect batches up to the size of a run and sort each."""
    gathered: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        gathered.append(batch)
        rows += len(batch)
        if rows >= RUN:
            yield pa.Table.from_batches(gathered, _SCORED).sort_by(_KEYS)
            gathered, rows = [], 0
    yield pa.Table.from_batches(gathered, _SCORED).sort_by(_KEYS)


def _spill(path: Path, runs: Iterable[pa.Table]) -> list[int]:
    """Write all runs behind each other in blocks; returns the block that each ends before."""
    ends = [0]
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, _SCORED) as writer:
        for run in runs:
            blocks = run.combine_chunks().to_batches(BLOCK)
            for block in blocks:
                writer.write_batch(block)
            ends.append(ends[-1] + len(blocks))
    return ends[1:]


def _merged(runs: Sequence[Iterator[pa.RecordBatch]]) -> Iterator[pa.Table]:
    """Yield sorted tables, each wholly before the next, from runs that are sorted by themselves."""
    heads = {number: block for number, run in enumerate(runs) if (block := next(run, None))}
    while heads:
        # Up to the head that ends first nothing can come in between any more.
        bound = min((block["key"][-1].as_py(), block["id"][-1].as_py()) for block in heads.values())
        ready = []
        for number, block in list(heads.items()):
            cut = _rows_until(block, bound)
            ready.append(block.slice(0, cut))
            rest = block.slice(cut) if cut < len(block) else next(runs[number], None)
            if rest is None:
                del heads[number]
            else:
                heads[number] = rest
        yield pa.Table.from_batches(ready).sort_by(_KEYS)


def _rows_until(block: pa.RecordBatch, bound: tuple[int, PointId]) -> int:
    """Count the rows of a sorted block up to and including a bound."""
    keys, (key, last) = block["key"].to_numpy(), bound
    low, high = int(np.searchsorted(keys, key)), int(np.searchsorted(keys, key, "right"))
    return low + bisect_right(range(low, high), last, key=lambda row: block["id"][row].as_py())


def _regrouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield the same rows in tables of `GROUP` rows, the last one shorter."""
    gathered: list[pa.Table] = []
    rows = 0
    for table in tables:
        gathered.append(table)
        rows += len(table)
        if rows >= GROUP:
            whole = pa.concat_tables(gathered)
            full = rows // GROUP * GROUP
            yield whole.slice(0, full)
            gathered, rows = [whole.slice(full)], rows - full
    if rows:
        yield pa.concat_tables(gathered)
