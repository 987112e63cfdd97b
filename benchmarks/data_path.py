"""How fast the data path is, beside what one would use instead; run by hand on a calm machine.

python benchmarks/data_path.py                        # 100,000 points, 8 minutes
python benchmarks/data_path.py --points 1000000 --contenders forward forward-torch   # 8 minutes
python benchmarks/data_path.py --indexed --points 60000 --old 64 --new 96 --rounds 3 \
    --contenders plain-rest forward forward-default forward-shadow-default

Starts a real server as the tests do, and gives each contender a fresh collection of its own and a
process of its own, so that processor time and memory are its own. Each round runs all of them once,
and the round with the median rate counts. Bytes are counted by a proxy in a run over few points
apart.

- plain-rest, plain-grpc: scroll 256, project, update_vectors, as in Qdrant's tutorial;
- client-migrate: `QdrantClient.migrate` to a second server, 512 numbers a point, nothing projected;
- rebasis, rebasis-bare: `rebasis migrate` 512 -> 512 with and without its shadow copy, if --rebasis
  names a Python 3.12 with it;
- forward: this tool's own backfill with provenance, journal and the last sweep, at
  `--max-slowdown off`; forward-default at the default, forward-shadow into a shadow, forward-torch
  with torch loaded, for its memory;
- read-ceiling, write-ceiling: the same bytes, neither parsed nor made while the clock runs, over
  one and two streams.

Optimizers are off, because whose turn they get is chance; with --indexed they are on, as on a live
collection, and the stored vectors are indexed before the clock runs. Every contender multiplies
with as many threads as `backfill` would: threads that spin for their turn count as work done.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from qdrant_client import QdrantClient, models

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.contenders import PAGE, Target, matrix_of
from tests.support.qdrant_server import running_server
from xbtmigrate.cli.process import leave_cores_to_the_loop
from xbtmigrate.qdrant.gallery.layout import shadow_name
from xbtmigrate.qdrant.wire.points import NewPoint
from xbtmigrate.qdrant.wire.reader import Reader
from xbtmigrate.qdrant.wire.writer import Writer

SETTINGS = {"QDRANT__STORAGE__WAL__WAL_CAPACITY_MB": "32"}
CEILINGS = ("read-ceiling-1", "read-ceiling-2", "write-ceiling-1", "write-ceiling-2")
USUAL = ("plain-rest", "plain-grpc", "client-migrate", "rebasis", "rebasis-bare", "forward")
COUNTED = 2048
"""Points in the run whose bytes are counted."""


def caption(number: int) -> str:
    """Return the payload's text of a point."""
    return f"a caption of about the usual length, of picture number {number}"


def fill(target: Target, *, alone: bool) -> None:
    """Create the collection with random vectors and a caption each; `alone` without a new one."""
    named = {
        name: models.VectorParams(size=size, distance=models.Distance.COSINE)
        for name, size in (("old", target.old), ("new", target.new))
    }
    unindexed: dict[str, Any] = {
        "hnsw_config": models.HnswConfigDiff(m=0),
        "optimizers_config": models.OptimizersConfigDiff(indexing_threshold=0),
    }
    with target.connect() as connection:
        connection.client.create_collection(
            target.collection,
            vectors_config=named["old"] if alone else named,
            **({} if target.indexed else unindexed),
        )
        writer, rng = Writer(connection, target.collection), np.random.default_rng(0)
        for start in range(0, target.points, PAGE):
            ids = range(start, min(start + PAGE, target.points))
            rows = rng.standard_normal((len(ids), target.old), dtype=np.float32)
            points = [
                NewPoint(
                    str(each),
                    {"text": caption(each)},
                    {"" if alone else "old": row},
                )
                for each, row in zip(ids, rows, strict=True)
            ]
            writer.upsert(points, None)
        if target.indexed:
            settle(connection.client, target.collection)


def settle(client: QdrantClient, collection: str) -> None:
    """Wait until the optimizer has had nothing to do for three seconds."""
    green = 0
    while green < 3:
        time.sleep(1)
        status = client.get_collection(collection).status
        green = green + 1 if status is models.CollectionStatus.GREEN else 0


def check(target: Target, written: str) -> float:
    """Return the largest difference between what was written there and the matrix product."""
    worst, matrix = 0.0, matrix_of(target)
    with target.connect() as connection:
        pages = (
            Reader(connection, collection, PAGE).scroll(payload=False, vectors=[name])
            for collection, name in ((target.collection, "old"), (written, "new"))
        )
        for sources, page in zip(*pages, strict=True):
            expected = sources.matrix("old", target.old) @ matrix
            expected /= np.linalg.norm(expected, axis=1, keepdims=True)
            worst = max(worst, float(np.abs(page.matrix("new", target.new) - expected).max()))
    return worst


@contextmanager
def counting(port: int) -> Iterator[tuple[int, list[int]]]:
    """Forward a port of its own to `port`, and count the bytes of both directions."""
    total = [0]
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while piece := source.recv(1 << 20):
                total[0] += len(piece)
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            sink.close()

    def accept() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", port))
            for pair in ((near, far), (far, near)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1], total
    finally:
        listener.close()


def started(name: str, target: Target, python: str) -> list[float]:
    """Run a contender in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.contenders", name, json.dumps(asdict(target))]
    leave_cores_to_the_loop()
    root = Path(__file__).resolve().parents[1]
    answer = subprocess.run(
        [*command, "--python", python],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
    )
    figures: list[float] = json.loads(answer.stdout.splitlines()[-1])
    return figures


def measured(name: str, target: Target, python: str) -> dict[str, float]:
    """Fill a collection, run a contender over it, and delete it."""
    fill(target, alone=name.startswith("rebasis"))
    rate, used, memory = started(name, target, python)
    row = {"rate": rate, "cpu": used / target.points * 1e6, "rss": memory}
    written = shadow_name(target.collection) if "shadow" in name else target.collection
    if name.startswith("forward"):
        row["difference"] = check(target, written)
    with target.connect() as connection:
        for each in {target.collection, written}:
            connection.client.delete_collection(each)
    return row


def moved(name: str, target: Target, python: str) -> float:
    """Count the bytes that a contender moves, for each point."""
    few = replace(target, points=COUNTED, collection=f"{name}-bytes")
    fill(few, alone=name.startswith("rebasis"))
    port = urlsplit(target.url).port
    assert port is not None
    with counting(port) as (rest, first), counting(target.grpc_port) as (rpc, second):
        through = replace(few, url=f"http://127.0.0.1:{rest}", grpc_port=rpc)
        started(name, through, python)
        return (first[0] + second[0]) / COUNTED


def compare(base: Target, names: list[str], rounds: int, python: str) -> dict[str, Any]:
    """Run every contender in every round; returns the round of each with its median rate."""
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with running_server(SETTINGS) as server, running_server(SETTINGS) as other:
        base = replace(base, url=server.url, grpc_port=server.grpc_port, other_url=other.url)
        for turn in range(rounds):
            for name in names:
                row = measured(name, replace(base, collection=f"{name}-{turn}"), python)
                rows[name].append(row)
                print(f"{name}: {row['rate']:,.0f} points/s", file=sys.stderr, flush=True)
        figures = {
            name: sorted(each, key=itemgetter("rate"))[len(each) // 2]
            for name, each in rows.items()
        }
        for name in names:
            if not base.indexed and "ceiling" not in name:
                figures[name]["bytes"] = moved(name, replace(base, collection=name), python)
    return figures


def table(points: int, figures: dict[str, Any]) -> str:
    """Lay the figures out in Markdown."""
    lines = [
        f"| {points:,} points | points/s | CPU s/million | peak RSS, MiB | bytes/point |",
        "|---|---|---|---|---|",
    ]
    for name, row in figures.items():
        size = f"{row['bytes']:,.0f}" if "bytes" in row else "-"
        lines.append(
            f"| {name} | {row['rate']:,.0f} | {row['cpu']:.0f} | {row['rss']:,.0f} | {size} |"
        )
    if "forward" in figures:
        lines += ["", f"Largest difference: {figures['forward']['difference']:.1e}."]
    ours = [name for name in figures if name.startswith("forward")]
    lines += [f"`{name}` against: {', '.join(ratios(name, figures))}." for name in ours]
    return "\n".join(lines)


def ratios(ours: str, figures: dict[str, Any]) -> list[str]:
    """Say how one of ours compares with each of the others, and with the lower ceiling."""
    rate = figures[ours]["rate"]
    found = [f"{name} {rate / figures[name]['rate']:.2f}x" for name in USUAL if name in figures]
    if all(name in figures for name in CEILINGS):
        read, write = (
            max(figures[f"{kind}-ceiling-{streams}"]["rate"] for streams in (1, 2))
            for kind in ("read", "write")
        )
        found.append(f"lower ceiling {rate / min(read, write):.2f}")
    return found


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description="Compare the data path with what is there")
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--old", type=int, default=512, help="numbers in a stored vector")
    parser.add_argument("--new", type=int, default=768, help="numbers in a written vector")
    parser.add_argument("--indexed", action="store_true", help="leave the optimizer on")
    parser.add_argument("--contenders", nargs="+", default=[*USUAL, *CEILINGS])
    parser.add_argument("--rebasis", default="", help="a Python with rebasis 0.1")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    names = [
        name for name in arguments.contenders if arguments.rebasis or not name.startswith("rebasis")
    ]
    before = os.getloadavg()[0]
    base = Target(
        *("", 0, "", arguments.points), arguments.old, arguments.new, indexed=arguments.indexed
    )
    figures = compare(base, names, arguments.rounds, arguments.rebasis)
    print(f"load {before:.1f} before, {os.getloadavg()[0]:.1f} after\n")
    print(table(arguments.points, figures))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
