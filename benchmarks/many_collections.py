"""One migration for each of many small collections, on a real server; run by hand.

python benchmarks/many_collections.py --collections 300 --points 100 --parallel 2

Fills the collections, breaks one of them, and runs plan, train-projector, backfill, verify, status
and cutover over all of them. Prints how long each took, and how the collections ended.
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
from pathlib import Path

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

OLD, NEW = FakeEncoder(dimension=64, seed=1), FakeEncoder(dimension=96, seed=2)
COMMANDS = (
    ["plan"],
    ["train-projector", "--kind", "ridge"],
    ["backfill", "--online"],
    ["verify"],
    ["status"],
    ["cutover", "--yes"],
)


def fill(client: QdrantClient, folder: Path, url: str, count: int, points: int) -> None:
    """Make the collections, the vectors of both models, and the configuration."""
    everything = []
    for tenant in range(count):
        name = f"tenant_{tenant:04}"
        texts = [f"entry {number} of {name} that is embedded as text" for number in range(points)]
        create_collection(client, name, {"old": 64, "new": 96})
        vectors = {"old": OLD.encode(texts, Modality.TEXT)}
        fill_collection(client, name, range(points), vectors, [{"text": text} for text in texts])
        everything += texts
    create_collection(client, "tenant_broken", {"other": 64})
    for model, encoder in (("old", OLD), ("new", NEW)):
        vectors_of_all = encoder.encode(everything, Modality.TEXT)
        write_vectors(folder / f"{model}.parquet", everything, vectors_of_all)
    write_precomputed_config(
        *(folder, url, ""),
        qdrant={"collection": None, "collections": ["tenant_*"]},
        plan={"strategy": "fastfill", "layout": "in_place", "sample": 100},
    )


def run(command: list[str], folder: Path, parallel: int) -> None:
    """Run one command over all collections, and print how they ended."""
    options = ["--json", "--progress", "none"]
    if command[0] not in ("train-projector", "status"):
        options += ["--parallel", str(parallel)]
    begun, spent = time.perf_counter(), _processor_seconds()
    done = subprocess.run(
        [sys.executable, "-m", "xbtmigrate", *command, *options],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds, spent = time.perf_counter() - begun, _processor_seconds() - spent
    counts = json.loads(done.stdout).get("counts")
    shown = {outcome: number for outcome, number in (counts or {}).items() if number}
    print(
        f"{' '.join(command):36} {seconds:8.1f} s, {spent:.1f} of the processor, "
        f"load {os.getloadavg()[0]:.0f}, exit {done.returncode}  {shown}",
        flush=True,
    )


def _processor_seconds() -> float:
    """Return the processor seconds of all commands so far, their own processes included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run all commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--collections", type=int, default=300)
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--parallel", type=int, default=2)
    given = parser.parse_args()
    with running_server() as server, tempfile.TemporaryDirectory() as name:
        client = QdrantClient(url=server.url, check_compatibility=False)
        fill(client, Path(name), server.url, given.collections, given.points)
        for command in COMMANDS:
            run(command, Path(name), given.parallel)


if __name__ == "__main__":
    main()
