"""Fit and measure projectors on the two corpora beside the checkout; run by hand.

python benchmarks/projectors.py --corpus debian --direction forward --json figures.json

Candidates are chosen on queries held out of the training split; the figures printed are those of
the test queries, which no fit and no choice has seen.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from xbtmigrate.projectors import Architecture
from xbtmigrate.training import (
    FitOptions,
    ModelSpace,
    Pairs,
    PairSource,
    Scores,
    SelectionTask,
    fit,
    measure_retrieval,
    race,
)
from xbtmigrate.training.fit_uncertainty import rank_correlation
from xbtmigrate.types import Direction, Distance, Vectors

VALIDATION_QUERIES = 1000
VALIDATION_GALLERY = 5000
SPACE = Distance.COSINE
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Pairs to fit on, a task to choose by, a task to report."""

    pairs: list[Pairs]
    validation: SelectionTask
    test: SelectionTask


def matrix(table: pa.Table, column: str) -> Vectors:
    """Read a column of half-precision vectors as float32 (n, d)."""
    array = table.column(column).combine_chunks()
    values = array.values.to_numpy(zero_copy_only=False)
    vectors: Vectors = values.reshape(len(array), -1).astype(np.float32)
    return vectors


def lookup(path: Path, keys: list[str]) -> Vectors:
    """Read the vectors of some texts from a table of key and vector."""
    table = pq.read_table(path)
    row = {key: number for number, key in enumerate(table.column("key").to_pylist())}
    return matrix(table, "vector")[[row[key] for key in keys]]


def split(train: Rows, seed: int) -> tuple[Rows, Rows]:
    """Take the validation queries out of the training items."""
    order = np.random.default_rng(seed).permutation(train)
    return np.sort(order[VALIDATION_QUERIES:]), np.sort(order[:VALIDATION_QUERIES])


def debian(data: Path, seed: int) -> Corpus:
    """Synopsis -> description, 20,000 packages, TF-IDF + SVD -> MiniLM."""
    folder = data / "text"
    packages = pq.read_table(folder / "debian-packages.parquet").to_pydict()
    queries = pq.read_table(folder / "queries.parquet").to_pydict()
    old_file, new_file = (
        folder / name for name in ("old-svd128-by-text.parquet", "new-minilm384-by-text.parquet")
    )
    old, new = (lookup(f, packages["description"]) for f in (old_file, new_file))
    queries_old, queries_new = (lookup(f, queries["text"]) for f in (old_file, new_file))
    row_of = {str(point): row for row, point in enumerate(packages["id"])}
    answer = np.array([row_of[ids[0]] for ids in queries["relevant"]])
    is_test = np.array(queries["split"]) == "test"
    train, validation = split(np.flatnonzero(~is_test), seed)

    def task(rows: Rows) -> SelectionTask:
        relevant = [answer[[row]] for row in rows]
        return SelectionTask(queries_new[rows], old, relevant, queries_old[rows], new)

    def choice(rows: Rows, others: Rows) -> SelectionTask:
        gallery = np.concatenate([rows, others])[:VALIDATION_GALLERY]
        relevant = [np.array([place]) for place in range(len(rows))]
        return SelectionTask(
            queries_new[rows],
            old[answer[gallery]],
            relevant,
            queries_old[rows],
            new[answer[gallery]],
        )

    kept = answer[train]
    pairs = Pairs(
        [str(packages["id"][row]) for row in kept],
        [""] * len(kept),
        old[kept],
        new[kept],
        PairSource.TEXT,
    )
    return Corpus([pairs], choice(validation, train), task(np.flatnonzero(is_test)))


def clipart(data: Path, seed: int) -> Corpus:
    """Caption -> image, 11,973 images, CLIP -> larger CLIP; the stored vectors embed images."""
    folder = data / "clipart"
    items = pq.read_table(folder / "pairs.parquet", columns=["id", "split"]).to_pydict()
    table = pq.read_table(folder / "embeddings.parquet")
    old_image, old_text, new_image, new_text = (
        matrix(table, name) for name in ("old_img", "old_txt", "new_img", "new_txt")
    )
    is_test = np.array(items["split"]) == "val"
    everything = np.arange(len(is_test))
    train, validation = split(np.flatnonzero(~is_test), seed)

    def task(rows: Rows, gallery: Rows) -> SelectionTask:
        relevant = [np.array([place]) for place in np.searchsorted(gallery, rows)]
        return SelectionTask(
            new_text[rows], old_image[gallery], relevant, old_text[rows], new_image[gallery]
        )

    ids = [str(items["id"][row]) for row in train]
    pairs = [
        Pairs(ids, [""] * len(ids), old[train], new[train], source)
        for old, new, source in (
            (old_text, new_text, PairSource.TEXT),
            (old_image, new_text, PairSource.CAPTION_IMAGE),
            (old_image, new_image, PairSource.IMAGE),
        )
    ]
    others = np.setdiff1d(np.flatnonzero(~is_test), validation)
    rest = np.random.default_rng(seed).permutation(others)[: VALIDATION_GALLERY - len(validation)]
    gallery = np.sort(np.concatenate([validation, rest]))
    return Corpus(pairs, task(validation, gallery), task(np.flatnonzero(is_test), everything))


def shown(name: str, scores: Scores, extra: str = "") -> str:
    """Format one line of the table."""
    return (
        f"{name:44} {scores.recall_at_1:.3f}  {scores.recall_at_10:.3f}  {scores.mrr:.3f}  {extra}"
    )


def measure(corpus: Corpus, direction: Direction, options: FitOptions) -> dict[str, object]:
    """Fit one direction and score every candidate on the test task."""
    started = time.process_time()
    report = fit(direction, corpus.pairs, corpus.validation, options, progress=print)
    cpu = time.process_time() - started
    test, projector = corpus.test, report.projector
    rows = []
    print(
        f"\n{direction}, {report.seconds:.0f} s, {cpu:.0f} s of CPU in all\n"
        f"{'':44} R@1    R@10   MRR    fit"
    )
    for candidate in report.candidates:
        scores = _test_scores(candidate.fitted.architecture, test, direction)
        settings = ", ".join(f"{k}={v}" for k, v in candidate.settings.items())
        name = f"{candidate.kind} {candidate.pairs} {candidate.source} {settings}"
        print(shown(name, scores, f"{candidate.seconds:.1f} s"))
        rows.append(
            {
                "kind": candidate.kind,
                "source": candidate.source,
                "pairs": candidate.pairs,
                "settings": dict(candidate.settings),
                "validation": candidate.scores.as_metrics(),
                "test": scores.as_metrics(),
                "cosine": candidate.cosine,
                "seconds": candidate.seconds,
            }
        )
    figures: dict[str, object] = {
        "seconds": report.seconds,
        "cpu_seconds": cpu,
        "candidates": rows,
    }
    if projector.has_uncertainty and test.gallery_new is not None:
        started = time.monotonic()
        estimate = projector.uncertainty(test.gallery_old)
        seconds = time.monotonic() - started
        error = np.linalg.norm(projector.apply(test.gallery_old) - test.gallery_new, axis=1)
        figures["uncertainty"] = {
            **projector.manifest.uncertainty_metrics,
            "gallery": rank_correlation(estimate, error),
            "gallery_seconds": seconds,
        }
        print("uncertainty, rank correlation:", figures["uncertainty"])
    return figures


def _test_scores(architecture: Architecture, test: SelectionTask, direction: Direction) -> Scores:
    """Score a map between cosine spaces."""
    if direction is Direction.BRIDGE:
        mapped = architecture(test.queries_new)
        return measure_retrieval(mapped, test.gallery_old, test.relevant, SPACE)
    mapped = architecture(test.gallery_old)
    return measure_retrieval(test.queries_new, mapped, test.relevant, SPACE)


def main() -> None:
    """Parse, measure, print, write."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser = argparse.ArgumentParser(description="Fit and measure projectors")
    parser.add_argument("--data", type=Path, default=default, help="folder of the corpora")
    parser.add_argument("--corpus", choices=["debian", "clipart"], default="debian")
    parser.add_argument("--direction", choices=list(Direction), action="append")
    parser.add_argument("--kinds", nargs="+", default=["auto"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--full", action="store_true", help="train every setting in full")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    if arguments.full:
        race.FEW_PAIRS = sys.maxsize
    corpus = {"debian": debian, "clipart": clipart}[arguments.corpus](
        arguments.data, arguments.seed
    )
    test = corpus.test
    if test.queries_old is None or test.gallery_new is None:
        raise SystemExit("the test task lacks the vectors of keep and full")
    keep = measure_retrieval(test.queries_old, test.gallery_old, test.relevant, SPACE)
    full = measure_retrieval(test.queries_new, test.gallery_new, test.relevant, SPACE)
    print(shown("keep", keep), shown("full", full), sep="\n")
    options = FitOptions(
        ModelSpace("old", SPACE),
        ModelSpace("new", SPACE),
        arguments.kinds,
        arguments.seed,
        arguments.threads,
    )
    figures: dict[str, object] = {"keep": keep.as_metrics(), "full": full.as_metrics()}
    for direction in arguments.direction or list(Direction):
        figures[direction] = measure(corpus, Direction(direction), options)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
