"""A backfill by one process and by workers of Ray, with an encoder that needs a core; by hand.

python benchmarks/ray_workers.py --points 4000 --workers 1 2

Needs xbtmigrate-ray. Every run fills a collection anew and embeds all of it. Prints the seconds of
the run, without those in which Ray and the workers start, and the rate against the first line.
"""

from __future__ import annotations

import argparse
import json
import os
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

OLD = FakeEncoder(dimension=64, seed=1)
MODEL = '''
import hashlib

from xbtmigrate.testing.encoders import FakeEncoder


class Busy(FakeEncoder):
    """Hashes each text for some milliseconds of processor time."""

    def __init__(self) -> None:
        super().__init__(dimension=96, seed=2)

    def encode(self, items, modality, *, ids=None):
        for item in items:
            digest = item.encode()
            for _ in range(ROUNDS):
                digest = hashlib.sha256(digest).digest()
        return super().encode(items, modality, ids=ids)
'''


def offer(folder: Path, rounds: int) -> None:
    """Write the encoder as an installed package of a folder."""
    info = folder / "busy-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: busy\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[xbtmigrate.encoders]\nbusy = busy:Busy\n")
    (folder / "busy.py").write_text(MODEL.replace("ROUNDS", str(rounds)))


def run(folder: Path, env: dict[str, str], *arguments: str) -> dict[str, object]:
    """Run one command and return its document."""
    done = subprocess.run(
        [sys.executable, "-m", "xbtmigrate", *arguments, "--json"],
        cwd=folder, env=env, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    found: dict[str, object] = json.loads(done.stdout)
    return found


def measure(url: str, folder: Path, points: int, env: dict[str, str], *engine: str) -> float:
    """Backfill a fresh collection; returns points per second."""
    folder.mkdir()
    texts = [f"entry {number} of a list that is embedded as text" for number in range(points)]
    with_name = folder.name
    client = QdrantClient(url=url, check_compatibility=False)
    create_collection(client, with_name, {"old": 64, "new": 96})
    old = OLD.encode(texts, Modality.TEXT)
    fill_collection(client, with_name, range(points), {"old": old}, [{"text": t} for t in texts])
    client.close()
    write_vectors(folder / "old.parquet", texts, old)
    write_precomputed_config(
        *(folder, url, with_name),
        new_model={"encoder": "busy", "path": None},
        plan={"strategy": "full", "layout": "in_place", "sample": 100},
    )
    run(folder, env, "plan")
    done = run(folder, env, "backfill", "--online", "--batch-size", "64", *engine)
    assert done["encoded"] == points
    return float(str(done["points_per_second"]))


def main() -> None:
    """Measure the built-in engine, then each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=10_000, help="hashes of each text")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running_server() as server:
        packages = Path(name) / "packages"
        offer(packages, options.rounds)
        path = os.pathsep.join(filter(None, [str(packages), os.environ.get("PYTHONPATH")]))
        env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
        first = None
        engines = {"built in": ()} | {
            f"ray, {count}": ("--engine", "ray", "--actors", str(count))
            for count in options.workers
        }
        for number, (title, engine) in enumerate(engines.items()):
            load = os.getloadavg()[0]
            folder = Path(name) / f"run{number}-{time.time_ns()}"
            rate = measure(server.url, folder, options.points, env, *engine)
            first = first or rate
            print(
                f"{title:10} {rate:8.0f} points/s {rate / first:6.2f}  load {load:.1f}", flush=True
            )


if __name__ == "__main__":
    main()
