"""How well `bench` predicts whole runs on a real server; run by hand.

python benchmarks/prediction.py --points 100000          # 4 minutes

For each strategy a fresh collection of random vectors, 512 -> 768, whose new ones are precomputed,
so that no encoder hides what the loop takes: `plan`, `train-projector`, `bench --yes`, then
`backfill --online` to its end. Compared are the predicted seconds and the run's own; then follows
where the time of each strategy's last run went. The projector is always a matrix: what `bench` and
the run go through is then the same in every round.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.contenders import Target, matrix_of
from benchmarks.data_path import SETTINGS, caption, fill
from tests.support.corpus import write_precomputed_config
from tests.support.qdrant_server import Server, running_server

STRATEGIES = {"forward": 0.0, "fastfill": 0.5, "full": 1.0}


def models(folder: Path, points: int) -> None:
    """Write both models' vectors of every caption, those that `fill` stores."""
    target = Target("", 0, "", points)
    old = np.random.default_rng(0).standard_normal((points, target.old), dtype=np.float32)
    new = old @ matrix_of(target)
    new += np.random.default_rng(3).standard_normal(new.shape, dtype=np.float32) * 0.3
    keys = [caption(number) for number in range(points)]
    for name, rows in (("old", old), ("new", new)):
        column = pa.FixedSizeListArray.from_arrays(rows.reshape(-1), rows.shape[1])
        pq.write_table(pa.table({"key": keys, "vector": column}), folder / f"{name}.parquet")


def answer(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run one command and return its document."""
    command = [sys.executable, "-m", "xbtmigrate", *arguments, "--json"]
    done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def row(folder: Path, server: Server, strategy: str, points: int) -> tuple[float, dict[str, Any]]:
    """Predict and run one strategy; returns the predicted seconds and the run's document."""
    name = f"points-{uuid4().hex[:8]}"
    fill(Target(server.url, server.grpc_port, name, points), alone=False)
    write_precomputed_config(
        *(folder, server.url, name),
        qdrant={"grpc_port": server.grpc_port},
        plan={"strategy": strategy, "layout": "in_place", "sample": 2000},
    )
    answer(folder, "plan")
    if strategy != "full":
        answer(folder, "train-projector", "--kind", "ridge")
    rates = answer(folder, "bench", "--yes")
    predicted = next(
        each["seconds"] for each in rates["predicted_seconds"] if each["strategy"] == strategy
    )
    share = str(STRATEGIES[strategy])
    run = answer(folder, "backfill", "--online", "--max-slowdown", "off", "--fraction", share)
    return predicted, run


def profile(runs: dict[str, dict[str, Any]], points: int) -> str:
    """Lay out the microseconds a point of each step, and its share of the run, in Markdown."""
    names = list(next(iter(runs.values()))["steps"])
    lines = [
        f"| microseconds a point | {' | '.join(names)} | run |",
        "|---" * (len(names) + 2) + "|",
    ]
    for strategy, run in runs.items():
        cells = [
            f"{each / points * 1e6:.0f} ({each / run['seconds']:.0%})" if each else "-"
            for each in run["steps"].values()
        ]
        lines.append(f"| {strategy} | {' | '.join(cells)} | {run['seconds'] / points * 1e6:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Parse, measure, print a table."""
    parser = argparse.ArgumentParser(description="Compare predicted and true times")
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES))
    arguments = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}\n")
    print(f"| {arguments.points:,} points | predicted, s | run, s | error |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as root, running_server(SETTINGS) as server:
        models(Path(root), arguments.points)
        runs = {}
        for strategy in arguments.strategies * arguments.rounds:
            predicted, runs[strategy] = row(Path(root), server, strategy, arguments.points)
            seconds = runs[strategy]["seconds"]
            error = f"{predicted / seconds - 1:+.0%}"
            print(f"| {strategy} | {predicted:.1f} | {seconds:.1f} | {error} |", flush=True)
    print(f"\n{profile(runs, arguments.points)}")


if __name__ == "__main__":
    main()
