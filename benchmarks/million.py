"""A whole migration of many points on a real server, with the peak memory of each command.

python benchmarks/million.py --points 100000 1000000       # by hand; an hour

For each number of points: fills a fresh collection (64 numbers a vector, indexed, the optimizer
on), writes judged queries, and runs all commands from `plan` to `finalize` with their defaults.
The backfill runs twice: it projects every point, as `forward` does, then it re-encodes a fifth.
Both models are those of the tests' zoo, which make vectors of 64 and 96 numbers from the words of a
text in microseconds, so that the tool's own work is what is measured.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from qdrant_client import models

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.data_path import SETTINGS, settle  # noqa: E402
from tests.support.corpus import create_collection, write_precomputed_config  # noqa: E402
from tests.support.qdrant_server import Server, running_server  # noqa: E402
from tests.zoo.encoder import ZooEncoder, installed  # noqa: E402
from xbtmigrate.qdrant.wire.connect import connect  # noqa: E402
from xbtmigrate.qdrant.wire.points import NewPoint  # noqa: E402
from xbtmigrate.qdrant.wire.writer import Writer  # noqa: E402

OLD: dict[str, Any] = {"dimension": 64, "seed": 1}
NEW: dict[str, Any] = {"dimension": 96, "seed": 2}
WORDS = 300
"""Each point has one of this many words in each of three places, so that texts differ."""
INDEX = models.HnswConfigDiff(m=8, ef_construct=50)
"""A light index, so that the server's own work does not hide the tool's."""
PAGE, QUERIES = 512, 200
COMMANDS = (
    ["plan"],
    ["train-projector", "--kind", "ridge"],
    ["evaluate"],
    ["backfill", "--online", "--fraction", "0"],
    ["backfill", "--online", "--fraction", "0.2"],
    ["status"],
    ["verify"],
)
# The two models are as good as each other, so that an evaluation does not recommend the move.
SWITCH = (["cutover", "--yes", "--despite-evaluation"], ["finalize", "--yes"])


def text(number: int) -> str:
    """Return the text of a point."""
    first, second, third = number % WORDS, number // WORDS % WORDS, number // WORDS**2
    return f"first{first} second{second} third{third}"


def fill(server: Server, name: str, points: int) -> None:
    """Make the collection, and wait until it is indexed."""
    encoder = ZooEncoder(**OLD)
    with connect(server.url, grpc_port=server.grpc_port) as connection:
        create_collection(
            connection.client, name, {"old": OLD["dimension"], "new": NEW["dimension"]}
        )
        writer = Writer(connection, name)
        for start in range(0, points, PAGE):
            ids = range(start, min(start + PAGE, points))
            texts = [text(each) for each in ids]
            rows = zip(ids, texts, encoder.vectors(texts), strict=True)
            writer.upsert([NewPoint(str(i), {"text": t}, {"old": v}) for i, t, v in rows], None)
        settle(connection.client, name)


def configure(folder: Path, server: Server, name: str, points: int) -> None:
    """Write the configuration, and queries of two of the three words of some points."""
    asked = range(0, points, points // QUERIES)
    queries = {
        "text": [text(each).rpartition(" ")[0] for each in asked],
        "relevant": [[str(each)] for each in asked],
    }
    pq.write_table(pa.table(queries), folder / "queries.parquet")
    zoo: dict[str, object] = {"encoder": "zoo", "path": None}
    write_precomputed_config(
        *(folder, server.url, name),
        qdrant={"grpc_port": server.grpc_port},
        old_model=zoo | OLD,
        new_model=zoo | NEW,
        plan={"strategy": "fastfill", "layout": "in_place", "queries": "queries.parquet"},
    )


def run(folder: Path, *command: str) -> None:
    """Run a command, and print its time and its peak memory."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "xbtmigrate", *command, "--json", "--progress", "none"],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{folder}"},
        stdout=(folder / "answer.json").open("w"),
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds, memory = time.perf_counter() - begun, usage.ru_maxrss / 1024
    code, load = os.waitstatus_to_exitcode(status), os.getloadavg()[0]
    shown = f"{seconds:8.1f} s {memory:6.0f} MB  exit {code}  load {load:.1f}"
    print(f"  {' '.join(command):36} {shown}", flush=True)
    if code:
        print((folder / "answer.json").read_text()[-2000:], flush=True)


def migrate(server: Server, points: int) -> None:
    """Fill a collection and lead it to the end of its migration."""
    name = f"points-{points}"
    begun = time.perf_counter()
    fill(server, name, points)
    print(f"{points:,} points, filled in {time.perf_counter() - begun:.0f} s", flush=True)
    with tempfile.TemporaryDirectory() as path, installed(folder := Path(path)):
        configure(folder, server, name, points)
        for command in COMMANDS:
            run(folder, *command)
        begun = time.perf_counter()
        with connect(server.url, grpc_port=server.grpc_port) as connection:
            settle(connection.client, name)
        print(
            f"  waited {time.perf_counter() - begun:.0f} s for the server's optimizer", flush=True
        )
        for command in SWITCH:
            run(folder, *command)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description="Migrate many points from plan to finalize")
    parser.add_argument("--points", type=int, nargs="+", default=[100_000, 1_000_000])
    given = parser.parse_args()
    for points in given.points:
        with running_server(SETTINGS) as server:
            migrate(server, points)


if __name__ == "__main__":
    main()
