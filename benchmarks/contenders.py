"""What data_path.py compares, each run by it in a process of its own.

Every contender reads each stored vector, multiplies it by the same matrix and writes the product
into the second vector; but the client's own `migrate` copies points to another server, and rebasis
writes vectors of the length that it found into their own place.
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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client.grpc import (
    PointId,
    PointsOperationResponse,
    ScrollPoints,
    VectorsSelector,
    WithPayloadSelector,
    WithVectorsSelector,
)

from xbtmigrate.backfill.goal import Goal
from xbtmigrate.backfill.loop import Backfill
from xbtmigrate.backfill.pace import Limits, Pace
from xbtmigrate.backfill.paced_gallery import PacedGallery
from xbtmigrate.backfill.step_times import StepTimes
from xbtmigrate.migration.phases import MigrationRecord, Phase
from xbtmigrate.qdrant.collection.facts import inspect
from xbtmigrate.qdrant.collection.health import OptimizerQueue
from xbtmigrate.qdrant.gallery.create import prepare
from xbtmigrate.qdrant.gallery.layout import NewSpace, choose_layout
from xbtmigrate.qdrant.gallery.open_gallery import PAGE as TOOL_PAGE
from xbtmigrate.qdrant.gallery.open_gallery import open_gallery
from xbtmigrate.qdrant.journal.journal import QdrantJournal
from xbtmigrate.qdrant.journal.run_control import Control
from xbtmigrate.qdrant.wire.connect import connect
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.points import EmbeddedFields
from xbtmigrate.qdrant.wire.protobuf import encode_vector_updates
from xbtmigrate.qdrant.wire.transport import PLAIN
from xbtmigrate.types import Direction, Distance, Layout, Modality, Vectors
from xbtmigrate.workflows.backfill.throttle import LoadMonitor

PAGE = 512
MAKE_ADAPTER = """
import sys, numpy as np
from pathlib import Path
from rebasis.core import save_adapter
from rebasis.core.procrustes import ProcrustesAdapter
from rebasis.types import EncodingProfile
turn = np.linalg.qr(np.random.default_rng(1).standard_normal((512, 512)))[0].astype(np.float32)
save_adapter(ProcrustesAdapter(turn, input_dim=512, output_dim=512), Path(sys.argv[1]),
    direction="old_to_new", old_profile=EncodingProfile("old", 512),
    new_profile=EncodingProfile("new", 512))
"""


@dataclass(frozen=True)
class Target:
    """One collection on one server, and where a copy of it may go.

    Attributes:
        url: Address of the server.
        grpc_port: Port of its gRPC interface.
        collection: Name of the collection.
        points: How many it has.
        old: Length of the stored vectors.
        new: Length of those that are written.
        indexed: Whether the optimizer is on and the stored vectors are indexed.
        other_url: Address of the server that a copy goes to.
    """

    url: str
    grpc_port: int
    collection: str
    points: int
    old: int = 512
    new: int = 768
    indexed: bool = False
    other_url: str = ""

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

    def channel(self) -> grpc.Channel:
        """Open a bare channel that declines compression."""
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        address = f"{urlsplit(self.url).hostname}:{self.grpc_port}"
        return grpc.insecure_channel(address, [*options, *PLAIN.items()])


def matrix_of(target: Target) -> Vectors:
    """Return the matrix that every contender multiplies with, (old, new)."""
    rng = np.random.default_rng(1)
    matrix: Vectors = rng.standard_normal((target.old, target.new), dtype=np.float32)
    return matrix / np.float32(np.sqrt(target.old))


class Multiply:
    """The projector of this benchmark."""

    direction = Direction.FORWARD

    def __init__(self, matrix: Vectors) -> None:
        self._matrix = matrix

    def apply(self, vectors: Vectors) -> Vectors:
        """Map (n, old) to (n, new)."""
        mapped: Vectors = vectors @ self._matrix
        return mapped

    def uncertainty(self, vectors: Vectors) -> Vectors:
        """Not used."""
        return np.zeros(len(vectors), np.float32)


class Nothing:
    """No vectors paid for earlier."""

    def find(self, hashes: Any) -> tuple[Vectors, Any]:
        """Find none."""
        return np.empty((len(hashes), 0), np.float32), np.zeros(len(hashes), np.bool_)


def plain(target: Target, *, prefer_grpc: bool) -> None:
    """Loop as a tutorial does."""
    client, offset, done = target.client(prefer_grpc=prefer_grpc), None, 0
    matrix = matrix_of(target)
    while done < target.points:
        records, offset = client.scroll(
            target.collection, limit=256, offset=offset, with_payload=True, with_vectors=["old"]
        )
        old = np.array([record.vector["old"] for record in records], np.float32)
        points = [
            models.PointVectors(id=record.id, vector={"new": row.tolist()})
            for record, row in zip(records, old @ matrix, strict=True)
        ]
        client.update_vectors(target.collection, points, wait=True)
        done += len(points)
        if offset is None:
            break


def copied(target: Target) -> None:
    """Copy the collection to the other server, as the client library does it."""
    there = QdrantClient(url=target.other_url, timeout=120, check_compatibility=False)
    target.client(prefer_grpc=False).migrate(there, [target.collection])


def rebasis(target: Target, python: str, *, shadow: bool) -> None:
    """Run `rebasis migrate` over the one vector of a collection."""
    with tempfile.TemporaryDirectory() as folder:
        adapter = str(Path(folder) / "turn.rbs")
        subprocess.run([python, "-c", MAKE_ADAPTER, adapter], check=True)
        store = f"qdrant://{urlsplit(target.url).netloc}?text_key=text#{target.collection}"
        options = ["--keep-original" if shadow else "--no-keep-original", "--no-health-check"]
        command = [str(Path(python).parent / "rebasis"), "-q", "migrate", "--adapter", adapter]
        command += ["--store", store, *options, "--yes", "--no-power-aware", "--batch", "256"]
        quiet = subprocess.DEVNULL
        subprocess.run(command, check=True, cwd=folder, stdout=quiet, stderr=quiet)


def read_ceiling(target: Target, streams: int) -> None:
    """Take pages off the wire; the next page's id is known, so nothing is parsed."""
    path = "/qdrant.Points/Scroll"
    send = target.channel().unary_unary(path, ScrollPoints.SerializeToString, None)

    def read(first: int, last: int) -> None:
        for offset in range(first, last, PAGE):
            request = ScrollPoints(
                collection_name=target.collection,
                limit=min(PAGE, last - offset),
                offset=PointId(num=offset),
                with_payload=WithPayloadSelector(enable=True),
                with_vectors=WithVectorsSelector(include=VectorsSelector(names=["old"])),
            )
            if len(send(request, timeout=120)) < 1000:
                raise SystemExit("the server did not answer with a page")

    _shared(read, target.points, streams)


def write_ceiling(target: Target, streams: int) -> float:
    """Send packed requests made beforehand; returns the seconds that the sending took."""
    send = target.channel().unary_unary(
        "/qdrant.Points/UpdateVectors", None, PointsOperationResponse.FromString
    )
    rows = np.random.default_rng(2).standard_normal((PAGE, target.new), dtype=np.float32)
    seconds = [0.0] * streams

    def write(first: int, last: int) -> None:
        stream = first * streams // target.points
        for start in range(first, last, PAGE):
            ids = [str(each) for each in range(start, min(start + PAGE, last))]
            request = encode_vector_updates(target.collection, ids, "new", rows[: len(ids)], None)
            begun = time.perf_counter()
            send(request, timeout=120)
            seconds[stream] += time.perf_counter() - begun

    _shared(write, target.points, streams)
    return max(seconds)


def _shared(work: Callable[[int, int], None], points: int, streams: int) -> None:
    bounds = [points * each // streams for each in range(streams + 1)]
    with ThreadPoolExecutor(streams) as pool:
        list(pool.map(work, bounds[:-1], bounds[1:]))


def forward(target: Target, layout: Layout | None = None, *, paced: bool) -> None:
    """Run the tool's own backfill to its end, sweep included; `paced` with its default limits."""
    with target.connect() as connection, ExitStack() as ends:
        facts = inspect(connection, target.collection, "old")
        space = NewSpace("new", target.new, Distance.COSINE)
        choice = choose_layout(facts, connection, layout, space, resuming=True)
        prepare(connection, facts, choice)
        fields = EmbeddedFields("text", None, Modality.TEXT)
        times = StepTimes()
        gallery = open_gallery(connection, facts, choice, fields, "p" * 64, times=times)
        limits = Limits() if paced else Limits(max_slowdown=None)
        pace = Pace(limits, TOOL_PAGE, partial(print, file=sys.stderr))
        backlog = OptimizerQueue(connection, choice.collection)
        control = Control(connection, target.collection)
        watch = LoadMonitor(connection, facts, control, backlog, limits, 0, pace)
        journal = QdrantJournal(connection, target.collection)
        record = journal.acquire(MigrationRecord(target.collection, Phase.PLANNED, "p" * 64))
        ends.callback(watch.end)
        watch.start()
        outcome = Backfill(
            gallery=PacedGallery(gallery, pace, times=times),
            journal=journal,
            record=record,
            goal=Goal(0.0, projects=True, max_quarantined=0.0),
            order=lambda: ([], ""),
            modality=Modality.TEXT,
            encoder=None,
            projector=Multiply(matrix_of(target)),
            cache=Nothing(),
            batch_size=256,
            on_progress=lambda _: None,
            should_stop=lambda: "",
            times=times,
        ).run()
        journal.release()
        steps = {step.value: round(each, 1) for step, each in outcome.steps.items() if each}
        print(f"{outcome.seconds:.1f} s: {steps}", file=sys.stderr)
        if outcome.counts.projected != target.points or outcome.left:
            raise SystemExit(f"not every point was projected: {outcome}")


def run(name: str, target: Target, python: str) -> float | None:
    """Run one contender; returns its seconds where its whole time does not count."""
    match name.split("-"):
        case ["plain", way]:
            plain(target, prefer_grpc=way == "grpc")
        case ["rebasis", *bare]:
            rebasis(target, python, shadow=not bare)
        case ["read", "ceiling", streams]:
            read_ceiling(target, int(streams))
        case ["write", "ceiling", streams]:
            return write_ceiling(target, int(streams))
        case ["client", "migrate"]:
            copied(target)
        case ["forward", *how]:
            if "torch" in how:
                __import__("torch")
            layout = Layout.SHADOW if "shadow" in how else None
            forward(target, layout, paced="default" in how)
    return None


def main() -> None:
    """Run one contender and print what it took."""
    parser = argparse.ArgumentParser(description="Run by data_path.py")
    parser.add_argument("name")
    parser.add_argument("target", type=json.loads)
    parser.add_argument("--python", default="")
    arguments = parser.parse_args()
    who = resource.RUSAGE_CHILDREN if arguments.name.startswith("rebasis") else 0
    target = Target(**arguments.target)
    before, begun = resource.getrusage(who), time.perf_counter()
    spent = run(arguments.name, target, arguments.python)
    seconds = spent or time.perf_counter() - begun
    after = resource.getrusage(who)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps([target.points / seconds, used, after.ru_maxrss / 1024]))
    os._exit(0)


if __name__ == "__main__":
    main()
