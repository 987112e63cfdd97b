"""FastFill's discriminative term on the Debian corpus beside the checkout; run by hand.

python benchmarks/classes.py --classes 0 64 label

The network of FastFill is trained without classes, with clusters of the new vectors, and with the
archive sections of the packages as labels (`fastfill_classes` of xbtmigrate-research), on the
`--spent` documents. Figures are those of the
other documents and of the test queries: rank correlation of its log-variance with the true error,
and the area under the backfilling curve of its order in one space, for a map of its own and for one
map that all orders share (that of the first classes); in brackets the bootstrap interval of the
difference to the first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from curves import Corpus, Rows, ahead_of, load
from projectors import SPACE
from xbtmigrate_research.fastfill_classes import BY_LABEL, FastFillClasses

from xbtmigrate.evaluation.curves import Curve, measure_curves
from xbtmigrate.evaluation.mixed_gallery import Single
from xbtmigrate.evaluation.retrieval import Relevance
from xbtmigrate.ordering import rank
from xbtmigrate.training import ModelSpace, Pairs, PairSource, SelectionTask, find_trainer
from xbtmigrate.training.fit_uncertainty import rank_correlation
from xbtmigrate.training.make_problem import make_problem
from xbtmigrate.training.problem import Problem
from xbtmigrate.types import Direction, Vectors

SETTINGS = {"loss": "likelihood", "penalty": 1e-2, "epochs": 10, "noise": 0.0}


def problem_of(corpus: Corpus, spent: Rows, arguments: argparse.Namespace) -> Problem:
    """Pairs of the spent documents but a tenth, whose queries choose the best state."""
    held, kept = np.split(spent, [len(spent) // 10])
    pairs = Pairs(
        [str(row) for row in kept],
        [""] * len(kept),
        corpus.old[kept],
        corpus.new[kept],
        PairSource.TEXT,
    )
    relevant = [np.array([place]) for place in range(len(held))]
    task = SelectionTask(corpus.queries_new[held], corpus.old[spent], relevant)
    spaces = ModelSpace("old", SPACE), ModelSpace("new", SPACE)
    return make_problem(
        Direction.FORWARD, pairs, task, spaces, seed=arguments.seed, threads=arguments.threads
    )


def curve_of(corpus: Corpus, projected: Vectors, estimate: Vectors) -> Curve:
    """The curve of one order in the new space."""
    everything = np.arange(len(corpus.old))
    order = rank([str(row) for row in everything], estimate)
    channels = corpus.spaces(corpus.test, everything, projected)
    relevance = Relevance.from_rows(corpus.test[:, None].tolist())
    (curve,) = measure_curves(
        channels, relevance, orders={"uncertainty": order}, servings=[Single()]
    )
    return curve


def main() -> None:
    """Parse, train, measure, print."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser = argparse.ArgumentParser(description="Measure FastFill's discriminative term")
    parser.add_argument("--data", type=Path, default=default, help="folder of the corpora")
    parser.add_argument("--classes", nargs="+", default=["0", "64", "label"])
    parser.add_argument("--spent", type=int, default=6000, help="documents re-encoded for pairs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    corpus = load(arguments.data)
    packages = pq.read_table(arguments.data / "text/debian-packages.parquet", columns=["section"])
    sections = packages["section"].to_pylist()
    spent = np.random.default_rng(arguments.seed).permutation(corpus.train)[: arguments.spent]
    others = np.setdiff1d(np.arange(len(corpus.old)), spent)
    problem = problem_of(corpus, spent, arguments)
    labelled = FastFillClasses({str(row): section for row, section in enumerate(sections)})
    print(f"{len(problem.x)} pairs, {len(set(sections))} sections")
    print("classes  rank correlation  R@10 at 0, AUC (ahead of first): own map; one map")
    shared, first = None, []
    for classes in arguments.classes:
        setting = classes if classes == BY_LABEL else int(classes)
        trainer = labelled if setting else find_trainer("fastfill")
        fitted = trainer.fit(problem, {**SETTINGS, "classes": setting})
        assert fitted.error is not None
        projected = problem.project(fitted.architecture, corpus.old)
        shared = projected if shared is None else shared
        estimate = fitted.error(corpus.old)
        error = np.linalg.norm(projected - corpus.new, axis=1)
        curves = [curve_of(corpus, each, estimate) for each in (projected, shared)]
        first = first or curves
        correlation = rank_correlation(estimate[others], error[others])
        shown = [
            f"{curve.values()[0]:.3f} {curve.auc():.3f} ({low:+.3f} {high:+.3f})"
            for curve, other in zip(curves, first, strict=True)
            for low, high in [ahead_of(curve, other, arguments.seed)]
        ]
        print(f"{classes:8} {correlation:.3f}  {'; '.join(shown)}", flush=True)


if __name__ == "__main__":
    main()
