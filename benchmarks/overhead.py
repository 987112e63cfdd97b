"""What the tool adds to an encoder of known cost, and to a start; run by hand (4 minutes).

python benchmarks/overhead.py texts.parquet --model sentence-transformers/all-MiniLM-L6-v2

Encodes the texts in turn by the encoder of the plugin alone, in batches of the size that
`backfill` hands to it, and by the whole loop (read, encode, write with provenance, sweep) on a real
server. Then starts the program ten times. Needs the plugin xbtmigrate-sentence-transformers.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from qdrant_client import models

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.contenders import Nothing, Target
from benchmarks.data_path import SETTINGS
from tests.support.qdrant_server import running_server
from xbtmigrate import registry
from xbtmigrate.backfill.goal import Goal
from xbtmigrate.backfill.loop import Backfill
from xbtmigrate.migration.phases import MigrationRecord, Phase
from xbtmigrate.protocols import Encoder
from xbtmigrate.qdrant.collection.facts import inspect
from xbtmigrate.qdrant.gallery.layout import NewSpace, choose_layout
from xbtmigrate.qdrant.gallery.open_gallery import open_gallery
from xbtmigrate.qdrant.journal.journal import QdrantJournal
from xbtmigrate.qdrant.wire.points import EmbeddedFields, NewPoint
from xbtmigrate.qdrant.wire.writer import Writer
from xbtmigrate.types import Distance, Modality

BATCH = 256
OLD = 128
STARTS = {
    "import xbtmigrate": ["-c", "import xbtmigrate"],
    "xbtmigrate --help": ["-m", "xbtmigrate", "--help"],
    "python alone": ["-c", "pass"],
}


def alone(encoder: Encoder, texts: list[str]) -> float:
    """Encode all texts in the halves of a batch that the loop hands out; returns seconds."""
    begun = time.perf_counter()
    for start in range(0, len(texts), BATCH // 2):
        part = texts[start : start + BATCH // 2]
        encoder.encode(part, Modality.TEXT, ids=[str(each) for each in range(len(part))])
    return time.perf_counter() - begun


def whole(target: Target, encoder: Encoder, texts: list[str]) -> float:
    """Run a full backfill, sweep included; returns seconds."""
    sizes = {"old": OLD, "new": encoder.dimension}
    with target.connect() as connection:
        connection.client.create_collection(
            target.collection,
            vectors_config={
                name: models.VectorParams(size=size, distance=models.Distance.COSINE)
                for name, size in sizes.items()
            },
        )
        rows = np.random.default_rng(0).standard_normal((len(texts), OLD), dtype=np.float32)
        points = [
            NewPoint(str(number), {"text": text}, {"old": rows[number]})
            for number, text in enumerate(texts)
        ]
        for start in range(0, len(points), BATCH):
            Writer(connection, target.collection).upsert(points[start : start + BATCH], None)
        facts = inspect(connection, target.collection, "old")
        space = NewSpace("new", encoder.dimension, Distance.COSINE)
        choice = choose_layout(facts, connection, None, space, resuming=True)
        fields = EmbeddedFields("text", None, Modality.TEXT)
        journal = QdrantJournal(connection, target.collection)
        record = journal.acquire(MigrationRecord(target.collection, Phase.PLANNED, "p" * 64))
        ids = [str(number) for number in range(len(texts))]
        begun = time.perf_counter()
        Backfill(
            gallery=open_gallery(connection, facts, choice, fields, "p" * 64),
            journal=journal,
            record=record,
            goal=Goal(1.0, projects=False, max_quarantined=0.0),
            order=lambda: (ids, ""),
            modality=Modality.TEXT,
            encoder=encoder,
            projector=None,
            cache=Nothing(),
            batch_size=BATCH,
            on_progress=lambda _: None,
            should_stop=lambda: "",
        ).run()
        seconds = time.perf_counter() - begun
        journal.release()
    return seconds


def starts() -> None:
    """Print the median of ten starts."""
    print("\n| start | median of ten, s |\n|---|---|")
    for name, arguments in STARTS.items():
        times = []
        for _ in range(10):
            begun = time.perf_counter()
            command = [sys.executable, *arguments]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - begun)
        print(f"| `{name}` | {statistics.median(times):.3f} |")


def main() -> None:
    """Parse, measure in turn, print."""
    parser = argparse.ArgumentParser(description="Measure what the tool adds to an encoder")
    parser.add_argument("texts", type=Path, help="a Parquet file with a column `text`")
    parser.add_argument("--model", required=True, help="name or folder of the model")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    texts = pq.read_table(arguments.texts, columns=["text"])["text"].to_pylist()
    texts = [each for each in texts if each][: arguments.count]
    factory = registry.load(registry.ENCODERS, "sentence-transformers")
    encoder = factory(model=arguments.model)
    encoder.encode(texts[:BATCH], Modality.TEXT, ids=[str(each) for each in range(BATCH)])
    print(f"load {os.getloadavg()[0]:.1f}, {len(texts):,} texts\n")
    print("| round | encoder alone, s | whole run, s | ratio |\n|---|---|---|---|")
    with running_server(SETTINGS) as server:
        for turn in range(arguments.rounds):
            target = Target(server.url, server.grpc_port, f"overhead-{turn}", len(texts))
            bare, run = alone(encoder, texts), whole(target, encoder, texts)
            print(f"| {turn + 1} | {bare:.2f} | {run:.2f} | {run / bare:.3f} |", flush=True)
    starts()


if __name__ == "__main__":
    main()
