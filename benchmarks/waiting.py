"""How long `plan` and `evaluate` work, beside what they cannot do without; run by hand.

python benchmarks/waiting.py --points 15000
python benchmarks/waiting.py --points 15000 --model FOLDER --sample 500     # a real encoder

Package descriptions on a real server, judged by their synopses. `plan` is compared with reading the
collection and reading and encoding the sample alone, by the same functions; `evaluate` with its
matrix products in bare numpy: each space searched once, the projected gallery, and the systems that
are shown beside the chosen one. Seconds of the processor, of the client alone: what else the
machine does hardly changes them. Set OMP_NUM_THREADS=1: threads that spin for their turn count.
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
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from commands import Corpus, debian, prepare

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.qdrant_server import running_server
from xbtmigrate.config import load_config
from xbtmigrate.types import Vectors
from xbtmigrate.workflows.encode_points import encode_readable
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.points import survey, take
from xbtmigrate.workflows.store import open_store


def first(corpus: Corpus, points: int) -> Corpus:
    """Keep the first points, and the queries that they answer."""
    kept = {str(each) for each in corpus.ids[:points]}
    asked = [each for each in zip(*corpus.queries, strict=True) if kept.issuperset(each[1])]
    return replace(
        corpus,
        ids=corpus.ids[:points],
        payloads=corpus.payloads[:points],
        stored=corpus.stored[:points],
        queries=([text for text, _ in asked], [relevant for _, relevant in asked]),
    )


def command(folder: Path, *arguments: str) -> tuple[float, dict[str, Any]]:
    """Run one command; returns the seconds of the processor and its document."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    argv = [sys.executable, "-m", "xbtmigrate", *arguments, "--json"]
    done = subprocess.run(argv, cwd=folder, stdout=subprocess.PIPE, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    document: dict[str, Any] = json.loads(done.stdout)
    return spent, document


def timed(work: Callable[[], object]) -> float:
    """Return the seconds of the processor that something takes."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def read_and_encode(folder: Path) -> float:
    """Read every point as a plan does, and read and encode its sample."""
    config = load_config(folder / "xbtmigrate.toml")

    def work() -> None:
        with open_store(config) as store:
            models = Models(config)
            seen = survey(
                store.reader(),
                sample=config.plan.sample,
                seed=config.plan.seed,
                report=lambda *_: None,
            )
            points = take(store.reader(), seen.sample)
            encode_readable(models.new, points.texts, models.stored, ids=points.ids)

    return timed(work)


def products(found: dict[str, Any], trained: dict[str, Any], sizes: tuple[int, int]) -> float:
    """Compute matrices of the shapes that an evaluation multiplies."""
    rng, (old, new) = np.random.default_rng(0), sizes
    queries, points = found["query_count"], found["gallery_count"]

    def vectors(count: int, size: int) -> Vectors:
        return rng.standard_normal((count, size), np.float32)

    asked, searched = ([vectors(count, size) for size in sizes] for count in (queries, points))
    kinds = [each["name"].partition(":")[0] for each in found["systems"]]
    # keep, its centred queries, the blend, and each bridge; true vectors, and each forward map.
    in_old, in_new = 3 + kinds.count("bridge"), 1 + kinds.count("forward")
    pairs = sum(trained["pairs"].values()) + trained["held_out"]
    landmarks, coefficients = vectors(pairs, old), vectors(pairs, new)

    def work() -> None:
        for _ in range(in_old):
            asked[0] @ searched[0].T
        for _ in range(in_new):
            asked[1] @ searched[1].T
        for start in range(0, points, 1000):
            (searched[0][start : start + 1000] @ landmarks.T) @ coefficients

    return timed(work)


def main() -> None:
    """Parse, measure, print a table."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser = argparse.ArgumentParser(
        description="Compare commands with what they cannot do without"
    )
    parser.add_argument("--points", type=int, default=15_000)
    parser.add_argument("--pairs", type=int, default=6000)
    parser.add_argument("--sample", type=int, default=2000)
    parser.add_argument("--model", help="sentence-transformers model in place of stored vectors")
    parser.add_argument("--data", type=Path, default=default, help="folder of the corpora")
    given = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}\n\n| command | processor, s | alone, s | ratio |")
    print("|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as root, running_server() as server:
        folder = Path(root) / "run"
        corpus = first(debian(given.data), given.points)
        prepare(corpus, "points", folder, server.url, 0)
        config = folder / "xbtmigrate.toml"
        text = config.read_text("utf-8")
        # Else a busy machine would cut the sample.
        text += f"sample = {given.sample}\nmeasure_seconds = 100000\n"
        if given.model:
            model = f'encoder = "sentence-transformers"\nmodel = "{given.model}"\nthreads = 1\n'
            text = text.replace('encoder = "precomputed"\npath = "new.parquet"\n', model)
        config.write_text(text, "utf-8")
        spent, _ = command(folder, "plan")
        alone = read_and_encode(folder)
        print(f"| plan | {spent:.1f} | {alone:.1f} | {spent / alone:.1f} |", flush=True)
        if given.model:
            return
        spent, trained = command(folder, "train-projector", "--pairs", str(given.pairs))
        print(f"| train-projector | {spent:.1f} | - | - |", flush=True)
        spent, found = command(folder, "evaluate")
        sizes = tuple(vectors.shape[1] for _, vectors in corpus.models.values())
        alone = products(found, trained, (sizes[0], sizes[1]))
        print(f"| evaluate | {spent:.1f} | {alone:.1f} | {spent / alone:.1f} |")


if __name__ == "__main__":
    main()
