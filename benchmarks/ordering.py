"""What it takes to freeze the order of many points; run by hand (3 minutes for 10 million).

python benchmarks/ordering.py --points 1000000 10000000

Sorts random scores of points with UUIDs as ids, as `backfill` does once the points are scored, in a
process for each size. Scoring itself is not in it: it reads every vector, as `forward` does.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from xbtmigrate.backfill.order_file import OrderedIds, make_sortable, write_sorted

PAGE = 512


def points(count: int) -> Iterator[pa.RecordBatch]:
    """Yield batches as the scoring pass does."""
    rng = np.random.default_rng(0)
    nothing = np.zeros(PAGE, np.bool_)
    for start in range(0, count, PAGE):
        size = min(PAGE, count - start)
        ids = [str(uuid.UUID(bytes=rng.bytes(16))) for _ in range(size)]
        yield make_sortable(ids, rng.standard_normal(size).astype(np.float32), nothing[:size])


class Timed:
    """Counts the seconds that an iterator takes."""

    def __init__(self, source: Iterator[pa.RecordBatch]) -> None:
        self.source = source
        self.seconds = 0.0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield what the source yields."""
        begun = time.perf_counter()
        for each in self.source:
            self.seconds += time.perf_counter() - begun
            yield each
            begun = time.perf_counter()


def one(count: int) -> dict[str, float]:
    """Sort, then go through the order as the encoding does."""
    made = Timed(points(count))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "order.parquet"
        begun = time.perf_counter()
        write_sorted(path, made, "random")
        sorted_after = time.perf_counter()
        ids = OrderedIds.open(path)
        digest = ids.digest()
        digested = time.perf_counter()
        read = sum(len(list(ids[start : start + 256])) for start in range(0, count, 256))
        ended = time.perf_counter()
        assert read == count, digest
        size = path.stat().st_size
    return {
        "points": count,
        "sort": sorted_after - begun - made.seconds,
        "digest": digested - sorted_after,
        "read": ended - digested,
        "bytes": size / count,
        "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Measure each size in a process of its own and print a table."""
    parser = argparse.ArgumentParser(description="Freeze the order of many points")
    parser.add_argument("--points", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.one)))
        return
    print(f"load {os.getloadavg()[0]:.1f}\n")
    print(
        "| points | sort and write, s | digest, s | read in order, s | file, bytes a point |",
        end="",
    )
    print(" peak RSS, MiB |\n|---|---|---|---|---|---|")
    for count in arguments.points:
        command = [sys.executable, __file__, "--one", str(count)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
        row = json.loads(answer.stdout)
        times = " | ".join(f"{row[name]:.1f}" for name in ("sort", "digest", "read", "bytes"))
        print(f"| {count:,} | {times} | {row['rss']:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
