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
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
from xbtmigrate.migration.phases import MigrationRecord, Phase
from xbtmigrate.qdrant.collection.facts import inspect
from xbtmigrate.qdrant.gallery.layout import NewSpace, choose_layout
from xbtmigrate.qdrant.gallery.open_gallery import open_gallery
from xbtmigrate.qdrant.journal.journal import QdrantJournal
from xbtmigrate.qdrant.wire.connect import connect
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.points import EmbeddedFields
from xbtmigrate.qdrant.wire.protobuf import encode_vector_updates
from xbtmigrate.qdrant.wire.transport import PLAIN
from xbtmigrate.types import Direction, Distance, Modality, Vectors

OLD, NEW = 512, 768
PAGE = 512
MATRIX = np.random.default_rng(1).standard_normal((OLD, NEW), dtype=np.float32) / np.float32(22.6)
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
    """One collection on one server, and where a copy of it may go."""

    url: str
    grpc_port: int
    collection: str
    points: int
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


def plain(target: Target, *, prefer_grpc: bool) -> None:
    """Loop as a tutorial does."""
    client, offset, done = target.client(prefer_grpc=prefer_grpc), None, 0
    while done < target.points:
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
    rows = np.random.default_rng(2).standard_normal((PAGE, NEW), dtype=np.float32)
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


def forward(target: Target) -> None:
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
            cache=Nothing(),
            batch_size=256,
            on_progress=lambda _: None,
            should_stop=lambda: "",
        ).run()
        journal.release()
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
        case ["forward", *torch]:
            if torch:
                __import__("torch")
            forward(target)
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
