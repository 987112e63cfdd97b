"""Embedding elsewhere: export, read back and backfill, with the peak memory of each; run by hand.

python benchmarks/elsewhere.py 20000 100000

For each number of points: fills a collection on a real server, exports what is to be embedded,
writes the vectors as another machine would, and runs the commands to the end of the backfill.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
from qdrant_client import QdrantClient

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.corpus import (
    create_collection,
    fill_collection,
    write_precomputed_config,
    write_vectors,
)
from tests.support.qdrant_server import running_server
from xbtmigrate.testing.encoders import FakeEncoder
from xbtmigrate.types import Modality

OLD, NEW = FakeEncoder(dimension=128, seed=1), FakeEncoder(dimension=256, seed=2)
CHUNK = 2_000
PAIRS = ["--pairs", "2000"]


def fill(client: QdrantClient, count: int) -> None:
    """Write points with a text each."""
    create_collection(client, "texts", {"old": 128, "new": 256})
    for start in range(0, count, CHUNK):
        ids = range(start, min(start + CHUNK, count))
        texts = [f"entry {number} of a list that is embedded as text" for number in ids]
        vectors = {"old": OLD.encode(texts, Modality.TEXT)}
        fill_collection(client, "texts", ids, vectors, [{"text": text} for text in texts])


def embed(given: Path, made: Path, encoder: FakeEncoder) -> None:
    """Write one file of vectors for each exported one."""
    made.mkdir(exist_ok=True)
    for file in given.glob("*.parquet"):
        keys = pq.read_table(file)["key"].to_pylist()
        write_vectors(made / file.name, keys, encoder.encode(keys, Modality.TEXT))


def run(folder: Path, *command: str) -> None:
    """Run a command, and print its time and its peak memory."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "xbtmigrate", *command, "--json", "--progress", "none"],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds, memory = time.perf_counter() - begun, usage.ru_maxrss / 1024
    code = os.waitstatus_to_exitcode(status)
    print(f"  {' '.join(command):44} {seconds:7.1f} s {memory:7.0f} MB  exit {code}", flush=True)


def main() -> None:
    """Run it for each number of points."""
    for count in map(int, sys.argv[1:]):
        print(f"{count:,} points")
        with running_server() as server, tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            fill(QdrantClient(url=server.url, check_compatibility=False), count)
            write_precomputed_config(
                *(folder, server.url, "texts"),
                old_model={"path": "old", "model": "old"},
                new_model={"path": "new", "model": "new"},
                plan={"strategy": "full", "layout": "in_place"},
            )
            run(folder, "export-texts", *PAIRS)
            for model, encoder in (("old", OLD), ("new", NEW)):
                embed(folder / "to-embed", folder / model, encoder)
            run(folder, "plan")
            run(folder, "export-texts", *PAIRS, "--all", "--out", "gallery")
            embed(folder / "gallery", folder / "new", NEW)
            run(folder, "export-texts", *PAIRS, "--all", "--missing", "new", "--out", "second")
            run(folder, "backfill", "--online")


if __name__ == "__main__":
    main()
