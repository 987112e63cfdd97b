"""How long `train-projector` fits the closed forms, 6,000 pairs of 128 -> 384; run by hand.

python benchmarks/fit_time.py

Processor seconds of both directions, beside one factorization of a matrix of pairs by pairs: each
exact Gaussian process takes one, and nothing else grows with the cube of the pairs. Seconds of the
processor hardly depend on what else a machine does, so trees of the code can be compared: put each
on PYTHONPATH in turn. Set OMP_NUM_THREADS=1: threads that spin for their turn count as work done.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from projectors import matrix
from scipy.linalg import cholesky

from xbtmigrate.training import FitOptions, ModelSpace, Pairs, PairSource, SelectionTask, fit
from xbtmigrate.types import Direction, Distance

FILES = {"old": "old-svd128-by-text.parquet", "new": "new-minilm384-by-text.parquet"}
HELD_OUT = 700


def main() -> None:
    """Parse, fit, print."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser = argparse.ArgumentParser(description="Time the fit of the closed forms")
    parser.add_argument("--pairs", type=int, default=6000)
    parser.add_argument("--data", type=Path, default=default, help="folder of the corpora")
    arguments = parser.parse_args()
    folder, count = arguments.data / "text", arguments.pairs
    texts = pq.read_table(folder / "debian-packages.parquet")["description"].to_pylist()
    texts = texts[: count + HELD_OUT]
    tables = {name: pq.read_table(folder / file) for name, file in FILES.items()}
    old, new = (
        matrix(table, "vector")[[row[text] for text in texts]]
        for table in tables.values()
        for row in [{key: place for place, key in enumerate(table["key"].to_pylist())}]
    )
    pairs, held = (
        Pairs(texts[part], texts[part], old[part], new[part], PairSource.TEXT)
        for part in (slice(count), slice(count, None))
    )
    task = SelectionTask(
        queries_new=held.new,
        gallery_old=old,
        relevant=[np.array([row]) for row in range(count, len(texts))],
        gallery_new=new,
        self_asked=True,
        pairs=[held],
    )
    options = FitOptions(ModelSpace("old", Distance.COSINE), ModelSpace("new", Distance.COSINE))
    kernel = new.astype(np.float64)
    kernel = kernel @ kernel.T + len(texts) * np.eye(len(texts))
    begun = time.process_time()
    cholesky(kernel, lower=True, overwrite_a=True)
    alone = time.process_time() - begun
    print(f"load {os.getloadavg()[0]:.1f}, torch imported: {'torch' in sys.modules}\n")
    print("| fit | processor, s | times one factorization |\n|---|---|---|")
    print(f"| one factorization of {len(texts):,} x {len(texts):,} | {alone:.1f} | 1.0 |")
    for direction in Direction:
        begun = time.process_time()
        fit(direction, [pairs], task, options)
        spent = time.process_time() - begun
        print(f"| {direction} | {spent:.1f} | {spent / alone:.1f} |", flush=True)


if __name__ == "__main__":
    main()
