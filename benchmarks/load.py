"""What a backfill does to the queries of others, with and without the throttle; run by hand.

python benchmarks/load.py --points 100000 --json figures.json

Starts a real server as the tests do, with one collection of clustered random vectors (128-d),
indexed, with room for a second vector (192-d) for each run. A process of its own asks for the ten
neighbours of random vectors, as an application would. Its times are taken alone and during
`backfill --online` with `--max-slowdown` off, 1.5 (the default) and 1.2. Between the runs the
optimizer is waited for and the queries alone are timed again, so each run has its own "before".
Each run is a `forward` migration of the same points into a vector of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from qdrant_client import QdrantClient, models

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.corpus import create_collection, write_precomputed_config, write_vectors  # noqa: E402
from tests.support.qdrant_server import Server, running_server  # noqa: E402

OLD, NEW = 128, 192
NAME = "load"
SETTINGS = {"QDRANT__STORAGE__WAL__WAL_CAPACITY_MB": "32"}


def fill(server: Server, points: int, folder: Path, runs: int) -> None:
    """Make the collection with a new vector for each run, and the vectors of both models."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((200, OLD), dtype=np.float32)
    old = centres[rng.integers(0, 200, points)] + 0.7 * rng.standard_normal(
        (points, OLD), dtype=np.float32
    )
    old /= np.linalg.norm(old, axis=1, keepdims=True)
    new = old @ rng.standard_normal((OLD, NEW), dtype=np.float32)
    new /= np.linalg.norm(new, axis=1, keepdims=True)
    texts = [f"text {number}" for number in range(points)]
    client = QdrantClient(server.url, grpc_port=server.grpc_port, prefer_grpc=True, timeout=120)
    params = {"old": OLD} | {f"new{run}": NEW for run in range(runs)}
    create_collection(client, NAME, params)
    client.upload_collection(
        NAME,
        vectors={"old": old},
        payload=({"text": text} for text in texts),
        ids=range(points),
        batch_size=512,
        wait=True,
    )
    for name, vectors in (("old", old), ("new", new)):
        write_vectors(folder / f"{name}.parquet", texts, vectors)
    settle(client)


def settle(client: QdrantClient) -> None:
    """Wait until the optimizer has nothing to do."""
    green = 0
    while green < 3:
        time.sleep(1)
        status = client.get_collection(NAME).status
        green = green + 1 if status is models.CollectionStatus.GREEN else 0


def ask(url: str, qps: float) -> None:
    """Ask until the input ends; print the time of each query with the moment it ended."""
    rng = np.random.default_rng(1)
    with httpx.Client(base_url=url, timeout=60) as client:
        while True:
            query = rng.standard_normal(OLD).tolist()
            body = {"query": query, "using": "old", "limit": 10, "with_payload": False}
            begun = time.perf_counter()
            client.post(f"/collections/{NAME}/points/query", json=body).raise_for_status()
            spent = time.perf_counter() - begun
            print(f"{time.time():.3f} {1000 * spent:.3f}", flush=True)
            time.sleep(max(0.0, 1 / qps - spent))


def command(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run one command of the program to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "xbtmigrate", *arguments, "--json"],
        cwd=folder,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout)


def percentiles(times: list[tuple[float, float]], begun: float, ended: float) -> dict[str, Any]:
    """Queries that ended between two moments: how many, and their times."""
    kept = [spent for moment, spent in times if begun <= moment <= ended]
    p50, p95, p99 = np.percentile(kept, [50, 95, 99])
    return {
        "queries": len(kept),
        "p50": round(p50, 1),
        "p95": round(p95, 1),
        "p99": round(p99, 1),
    }


def measure(server: Server, points: int, qps: float, rest: float) -> list[dict[str, Any]]:
    """Time the queries before and during a run under each limit."""
    client = QdrantClient(server.url, grpc_port=server.grpc_port, timeout=120)
    moments: list[tuple[str, float, float, dict[str, Any]]] = []
    limits = ("off", "1.5", "1.2")
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        fill(server, points, base, len(limits))
        asker = subprocess.Popen(
            [sys.executable, __file__, "--ask", server.url, "--qps", str(qps)],
            stdout=(base / "times").open("w"),
        )
        try:
            for run, limit in enumerate(limits):
                folder = base / limit
                folder.mkdir()
                for file in ("old.parquet", "new.parquet"):
                    (folder / file).symlink_to(base / file)
                write_precomputed_config(
                    *(folder, server.url, NAME),
                    qdrant={"grpc_port": server.grpc_port, "new_vector": f"new{run}"},
                    plan={"strategy": "forward", "layout": "in_place", "sample": 500},
                )
                if run:
                    client.delete_collection("_xbtmigrate")
                    client.delete_payload(NAME, ["_xbtmigrate"], models.Filter(), wait=True)
                command(folder, "plan")
                command(folder, "train-projector", "--kind", "ridge", "--pairs", "2000")
                settle(client)
                begun = time.time()
                time.sleep(rest)
                moments.append((f"before {limit}", begun, time.time(), {}))
                begun = time.time()
                done = command(folder, "backfill", "--online", "--max-slowdown", limit)
                ended = time.time()
                load = command(folder, "status")["load"]
                moments.append((f"during {limit}", begun, ended, {**load, **done}))
                settle(client)
        finally:
            asker.kill()
            asker.wait()
        lines = (base / "times").read_text().splitlines()
    times = [(float(a), float(b)) for a, b in (line.split() for line in lines if " " in line)]
    return [
        {"phase": phase, **percentiles(times, begun, ended), **_figures(extra)}
        for phase, begun, ended, extra in moments
    ]


def _figures(extra: dict[str, Any]) -> dict[str, Any]:
    kept = ("seconds", "points_per_second", "pauses", "baseline_p95_ms")
    return {name: extra[name] for name in kept if name in extra}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--qps", type=float, default=50)
    parser.add_argument("--rest", type=float, default=20, help="seconds of queries alone")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--ask")
    options = parser.parse_args()
    if options.ask:
        ask(options.ask, options.qps)
        return
    with running_server(SETTINGS) as server:
        rows = measure(server, options.points, options.qps, options.rest)
    for row in rows:
        print(row)
    if options.json:
        machine = f"{platform.machine()}, {os.cpu_count()} cores"
        options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
