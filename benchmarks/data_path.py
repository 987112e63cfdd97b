"""How fast the data path is, beside what one would use instead; run by hand on a calm machine.

python benchmarks/data_path.py --points 100000 --json figures.json

Starts a real server as the tests do, and gives each contender a fresh collection of its own and a
process of its own, so that processor time and memory are its own. Every contender reads each stored
vector, multiplies it by the same matrix and writes the product into the second vector:

- plain-rest, plain-grpc: scroll 256, project, update_vectors, as in Qdrant's tutorial;
- forward: this tool's own backfill with provenance, journal and the last sweep;
- read-ceiling, write-ceiling: the same bytes, neither parsed nor made while the clock runs, over
  one and two connections; the faster counts.

Indexing is off, because whose turn the optimizer gets is chance. Every contender multiplies with as
many threads as `backfill` would: threads that spin for their turn count as work done.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client.grpc import PointsOperationResponse

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.qdrant_server import running_server
from xbtmigrate.backfill import Backfill
from xbtmigrate.goal import Goal
from xbtmigrate.journal import MigrationRecord, Phase
from xbtmigrate.qdrant.connection import Connection, connect
from xbtmigrate.qdrant.inspection import inspect
from xbtmigrate.qdrant.journal import QdrantJournal
from xbtmigrate.qdrant.layouts import NewSpace, choose_layout
from xbtmigrate.qdrant.opening import open_gallery
from xbtmigrate.qdrant.packing import vector_updates
from xbtmigrate.qdrant.pages import NewPoint
from xbtmigrate.qdrant.payload import EmbeddedFields
from xbtmigrate.qdrant.routes import PackedRoute
from xbtmigrate.qdrant.scan import Reader
from xbtmigrate.types import Direction, Distance, Modality, Vectors

OLD, NEW = 512, 768
PAGE = 512
MATRIX = np.random.default_rng(1).standard_normal((OLD, NEW), dtype=np.float32) / np.float32(22.6)
SETTINGS = {"QDRANT__STORAGE__WAL__WAL_CAPACITY_MB": "32"}
CONTENDERS = ("plain-rest", "plain-grpc", "read-ceiling", "write-ceiling", "forward")


@dataclass(frozen=True)
class Target:
    """One collection on one server."""

    url: str
    grpc_port: int
    collection: str
    points: int

    def client(self, *, prefer_grpc: bool) -> QdrantClient:
        """Open it with the client library."""
        return QdrantClient(
            url=self.url,
            grpc_port=self.grpc_port,
            prefer_grpc=prefer_grpc,
            timeout=120,
            check_compatibility=False,
        )

    def connect(self) -> Connection:
        """Open it as the tool does."""
        return connect(self.url, grpc_port=self.grpc_port, timeout=120)


class Multiply:
    """The projector of this benchmark."""

    direction = Direction.FORWARD

    def apply(self, vectors: Vectors) -> Vectors:
        """Map (n, 512) to (n, 768)."""
        mapped: Vectors = vectors @ MATRIX
        return mapped

    def uncertainty(self, vectors: Vectors) -> Vectors:
        """Not used."""
        return np.zeros(len(vectors), np.float32)


class Nothing:
    """No vectors paid for earlier."""

    def find(self, hashes: Any) -> tuple[Vectors, Any]:
        """Find none."""
        return np.empty((len(hashes), 0), np.float32), np.zeros(len(hashes), np.bool_)


def fill(target: Target) -> None:
    """Create the collection with random unit vectors and a caption each."""
    vectors = {
        name: models.VectorParams(size=size, distance=models.Distance.COSINE)
        for name, size in (("old", OLD), ("new", NEW))
    }
    with target.connect() as connection:
        connection.client.create_collection(
            target.collection, vectors_config=vectors, hnsw_config=models.HnswConfigDiff(m=0)
        )
        route = PackedRoute(connection.rpc, target.collection)
        rng = np.random.default_rng(0)
        for start in range(0, target.points, PAGE):
            ids = range(start, min(start + PAGE, target.points))
            rows = rng.standard_normal((len(ids), OLD), dtype=np.float32)
            points = [
                NewPoint(
                    str(each),
                    {"text": f"a caption of about the usual length, of picture number {each}"},
                    {"old": row},
                )
                for each, row in zip(ids, rows, strict=True)
            ]
            connection.write(lambda points=points: route.upsert(points, None))


def plain(target: Target, *, prefer_grpc: bool) -> int:
    """Loop as a tutorial does."""
    client, offset, done = target.client(prefer_grpc=prefer_grpc), None, 0
    while True:
        records, offset = client.scroll(
            target.collection, limit=256, offset=offset, with_payload=True, with_vectors=["old"]
        )
        old = np.array([record.vector["old"] for record in records], np.float32)
        points = [
            models.PointVectors(id=record.id, vector={"new": row.tolist()})
            for record, row in zip(records, old @ MATRIX, strict=True)
        ]
        client.update_vectors(target.collection, points, wait=True)
        done += len(points)
        if offset is None:
            return done


def read_ceiling(target: Target, streams: int) -> int:
    """Take pages off the wire; the next page's id is known, so nothing is parsed."""
    address = urlsplit(target.url).netloc
    path = f"/collections/{target.collection}/points/scroll"

    def read(first: int, last: int) -> int:
        wire = http.client.HTTPConnection(address)
        for offset in range(first, last, PAGE):
            body = {
                "limit": min(PAGE, last - offset),
                "offset": offset,
                "with_payload": True,
                "with_vector": ["old"],
            }
            wire.request("POST", path, json.dumps(body), {"content-type": "application/json"})
            answer = wire.getresponse()
            if answer.status != 200 or len(answer.read()) < 1000:
                raise SystemExit("the server did not answer with a page")
        return last - first

    return _shared(read, target.points, streams)


def write_ceiling(target: Target, streams: int) -> tuple[int, float]:
    """Send packed requests; returns the points and the seconds that the sending took."""
    options = [("grpc.max_send_message_length", -1)]
    channel = grpc.insecure_channel(f"{urlsplit(target.url).hostname}:{target.grpc_port}", options)
    send = channel.unary_unary(
        "/qdrant.Points/UpdateVectors",
        request_serializer=None,
        response_deserializer=PointsOperationResponse.FromString,
    )
    rows = np.random.default_rng(2).standard_normal((PAGE, NEW), dtype=np.float32)
    seconds = [0.0] * streams

    def write(first: int, last: int) -> int:
        stream = first * streams // target.points
        for start in range(first, last, PAGE):
            ids = [str(each) for each in range(start, min(start + PAGE, last))]
            request = vector_updates(target.collection, ids, "new", rows[: len(ids)], None)
            begun = time.perf_counter()
            send(request, timeout=120)
            seconds[stream] += time.perf_counter() - begun
        return last - first

    return _shared(write, target.points, streams), max(seconds)


def _shared(work: Callable[[int, int], int], points: int, streams: int) -> int:
    bounds = [points * each // streams for each in range(streams + 1)]
    with ThreadPoolExecutor(streams) as pool:
        return sum(pool.map(work, bounds[:-1], bounds[1:]))


def forward(target: Target) -> int:
    """Run the tool's own backfill to its end, sweep included."""
    with target.connect() as connection:
        facts = inspect(connection, target.collection, "old")
        choice = choose_layout(
            facts, connection, None, NewSpace("new", NEW, Distance.COSINE), resuming=True
        )
        fields = EmbeddedFields("text", None, Modality.TEXT)
        journal = QdrantJournal(connection, target.collection)
        record = journal.acquire(MigrationRecord(target.collection, Phase.PLANNED, "p" * 64))
        outcome = Backfill(
            gallery=open_gallery(connection, facts, choice, fields, "p" * 64),
            journal=journal,
            record=record,
            goal=Goal(0.0, projects=True, max_quarantined=0.0),
            order=lambda: ([], ""),
            modality=Modality.TEXT,
            encoder=None,
            projector=Multiply(),
            known=Nothing(),
            batch_size=256,
            on_progress=lambda _: None,
            should_stop=lambda: "",
        ).run()
        journal.release()
    return outcome.counts.projected


def one(name: str, target: Target) -> dict[str, float]:
    """Run one contender in this process and say what it took."""
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    spent = None
    if name.startswith("plain"):
        points = plain(target, prefer_grpc=name.endswith("grpc"))
    elif name == "forward":
        points = forward(target)
    else:
        kind, streams = name.rsplit("-", 1)
        if kind == "read-ceiling":
            points = read_ceiling(target, int(streams))
        else:
            points, spent = write_ceiling(target, int(streams))
    seconds = spent or time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "points": points,
        "seconds": seconds,
        "points_per_second": points / seconds,
        "cpu_seconds_per_million": used / points * 1e6,
        "peak_rss_mib": after.ru_maxrss / 1024,
    }


def check(target: Target) -> float:
    """Return the largest difference between what was written and the matrix product."""
    worst = 0.0
    with target.connect() as connection:
        reader = Reader(connection, target.collection, PAGE)
        for page in reader.scroll(payload=False, vectors=["old", "new"]):
            old = np.stack([each["old"] for each in page.vectors])
            new = np.stack([each["new"] for each in page.vectors])
            expected = old @ MATRIX
            expected /= np.linalg.norm(expected, axis=1, keepdims=True)
            worst = max(worst, float(np.abs(new - expected).max()))
    return worst


def trials(names: list[str]) -> Iterator[str]:
    """Ceilings are tried with one and with two connections."""
    for name in names:
        if name.endswith("ceiling"):
            yield from (f"{name}-1", f"{name}-2")
        else:
            yield name


def compare(points: int, names: list[str]) -> dict[str, Any]:
    """Run every contender on a server of its own collection and print a line for each."""
    figures: dict[str, Any] = {"points": points, "load_before": os.getloadavg()}
    print(f"{points:,} points, {OLD} -> {NEW}, load {os.getloadavg()[0]:.1f}")
    print(f"{'':16} points/s   CPU s/million   peak RSS MiB")
    with running_server(SETTINGS) as server:
        for name in trials(names):
            target = Target(server.url, server.grpc_port, name, points)
            fill(target)
            command = [sys.executable, __file__, "--one", name, "--url", server.url]
            command += ["--grpc-port", str(server.grpc_port), "--points", str(points)]
            threads = str(max(1, (os.cpu_count() or 1) - 2))
            environment = {**os.environ, "OPENBLAS_NUM_THREADS": threads}
            answer = subprocess.run(
                command, check=True, capture_output=True, text=True, env=environment
            )
            row = json.loads(answer.stdout.splitlines()[-1])
            if name == "forward":
                row["largest_difference"] = check(target)
            figures[name] = row
            rate, cpu = row["points_per_second"], row["cpu_seconds_per_million"]
            print(f"{name:16} {rate:8,.0f} {cpu:15,.1f} {row['peak_rss_mib']:14,.0f}", flush=True)
            with target.connect() as connection:
                connection.client.delete_collection(name)
    figures["load_after"] = os.getloadavg()
    return figures


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description="Compare the data path with what is there")
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--grpc-port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        target = Target(arguments.url, arguments.grpc_port, arguments.one, arguments.points)
        print(json.dumps(one(arguments.one, target)))
        return
    figures = compare(arguments.points, arguments.contenders)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
