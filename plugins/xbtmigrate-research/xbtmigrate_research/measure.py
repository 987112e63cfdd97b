"""Run methods on trials, and keep what was measured in a file, one line a run."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from xbtmigrate.evaluation.comparison import negative_flips
from xbtmigrate.evaluation.curves import measure_curves
from xbtmigrate.evaluation.retrieval import Metric, QueryScores, Relevance, SearchSpace
from xbtmigrate_research.method import Backfill, Method
from xbtmigrate_research.trial import TEST, Trial

KEEP, FULL = "keep", "full"
MAIN: Metric = "recall@10"
"""The metric of the page and of its tests."""


@dataclass(frozen=True, slots=True)
class Run:
    """One method on one corpus with one seed.

    Attributes:
        corpus: Name of the corpus.
        method: Name of the method; `keep` and `full` for the two models alone.
        seed: Seed of the pairs and of the training.
        pairs: Number of pairs.
        epochs: Passes over the pairs; 0 for closed forms and what the tool trains itself.
        published: How many the paper takes.
        seconds: Processor time of the training and the projection.
        figures: Name of a metric -> its value on the test queries.
        note: Settings that were chosen.
        measured: Day and machine.
        hits: Which test queries MAIN counts as answered, a bit each, as hexadecimal digits; under
            `own` those of the model's own vectors, where a method trains it.
    """

    corpus: str
    method: str
    seed: int
    pairs: int
    epochs: int
    published: int
    seconds: float
    figures: dict[str, float]
    note: str = ""
    measured: str = ""
    hits: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells this run from others."""
        return self.corpus, self.method, self.seed, self.pairs, self.epochs


def measure_ends(name: str, trial: Trial) -> list[Run]:
    """Measure the old model on its vectors and the new model on its own."""
    corpus = trial.corpus
    spaces = {
        KEEP: SearchSpace(corpus.asked_old, corpus.old),
        FULL: SearchSpace(corpus.asked_new, corpus.new),
    }
    judged = {end: trial.judge(space, TEST) for end, space in spaces.items()}
    return [
        Run(name, end, 0, 0, 0, 0, 0.0, _figures(found), hits={"": _pack(found)})
        for end, found in judged.items()
    ]


def measure_method(name: str, method: Method, trial: Trial) -> Run:
    """Train a method and measure what it answers."""
    started = time.process_time()
    outcome = method.run(trial)
    seconds = time.process_time() - started
    corpus = trial.corpus
    keep = trial.judge(SearchSpace(corpus.asked_old, corpus.old), TEST)
    found = trial.judge(outcome.space, TEST)
    figures = _figures(found) | {"negative flips": negative_flips(found, keep)}
    hits = {"": _pack(found)}
    if outcome.own is not None:
        own = trial.judge(outcome.own, TEST)
        figures |= {f"own {metric}": value for metric, value in _figures(own).items()}
        hits["own"] = _pack(own)
    for step, space in outcome.steps.items():
        figures[f"step {step}"] = trial.judge(space, TEST).means["map@100"]
    if outcome.backfill is not None:
        figures |= _curves(outcome.backfill, trial)
    epochs = trial.cut(method.epochs)
    return Run(
        name, method.name, trial.seed, trial.pairs, epochs, method.epochs, seconds, figures,
        outcome.note, hits=hits,
    )  # fmt: skip


def measure_all(
    name: str, trials: Sequence[Trial], methods: Sequence[Method], results: Path
) -> Iterator[Run]:
    """Measure what the file does not hold yet; every run is appended to it at once."""
    known = {run.key for run in read_runs(results)}
    for run in measure_ends(name, trials[0]):
        if run.key not in known:
            yield _kept(run, results)
    for trial in trials:
        for method in methods:
            key = name, method.name, trial.seed, trial.pairs, trial.cut(method.epochs)
            if name in method.corpora and key not in known:
                # A copy, so that the next method pays for its own words and problems.
                yield _kept(measure_method(name, method, replace(trial)), results)


def read_runs(results: Path) -> list[Run]:
    """Read what was measured; nothing where there is no file."""
    if not results.exists():
        return []
    return [Run(**json.loads(line)) for line in results.read_text("utf-8").splitlines() if line]


def _kept(run: Run, results: Path) -> Run:
    today = datetime.now(UTC).date()
    run = replace(run, measured=f"{today}, {platform.machine()}, {os.cpu_count()} cores")
    with results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(run)) + "\n")
    return run


def _figures(found: QueryScores) -> dict[str, float]:
    return {name: found.means[name] for name in ("recall@1", "recall@10", "map@100")}


def _pack(found: QueryScores) -> str:
    return np.packbits(found.values[MAIN] > 0).tobytes().hex()


def _curves(backfill: Backfill, trial: Trial) -> dict[str, float]:
    """Mean recall@10 over the shares embedded again, in random order and in the method's."""
    count = len(trial.corpus.old)
    orders = {"random": np.random.default_rng(1000 + trial.seed).permutation(count)}
    orders |= {name: order() for name, order in backfill.orders.items()}
    spaces = {
        channel: SearchSpace(space.query[TEST], space.gallery)
        for channel, space in backfill.spaces.items()
    }
    relevance = Relevance.from_rows(trial.corpus.rel[TEST, None].tolist())
    curves = measure_curves(spaces, relevance, orders=orders, servings=[backfill.serving])
    return {f"AUC {curve.ordering}": curve.auc() for curve in curves}
