"""Whether a method is above what it is compared with: a test over queries, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import TypeAlias

import numpy as np

from xbtmigrate.evaluation.comparison import Significance, paired_permutation_test
from xbtmigrate.evaluation.retrieval import PerQuery
from xbtmigrate_research.measure import KEEP, MAIN, Run
from xbtmigrate_research.method import Method

Found: TypeAlias = Mapping[str, Mapping[str, Sequence[Run]]]
"""Runs by corpus and method."""

LEVEL = 0.01
"""Largest p-value of a difference; the page makes some two hundred tests."""
WORDS = {
    Significance.BETTER: "above",
    Significance.SAME: "no different from",
    Significance.WORSE: "below",
}


def compare_runs(ours: Sequence[Run], theirs: Sequence[Run]) -> Significance | None:
    """Test by the queries that either answers, each the mean over the seeds that both have.

    Args:
        ours: Runs of a method on one corpus.
        theirs: Runs of what it is compared with; one without seeds stands for every seed.

    Returns:
        None where no seed is common.
    """
    of_seed = {run.seed: run for run in theirs}
    default = theirs[0] if theirs and not theirs[0].pairs else None
    both = [(run, base) for run in ours if (base := of_seed.get(run.seed, default)) is not None]
    if not both:
        return None
    first, second = (
        np.mean([_answered(pair[side]) for pair in both], axis=0)[:, None] for side in (0, 1)
    )
    if paired_permutation_test(first, second, seed=0)[0] >= LEVEL:
        return Significance.SAME
    gain = mean(run.figures[MAIN] - base.figures[MAIN] for run, base in both)
    return Significance.BETTER if gain > 0 else Significance.WORSE


def judge_method(method: Method, found: Found) -> str:
    """Say in a sentence or two how a method compares, on which corpora, and what was shortened."""
    against = [(KEEP, "the old model")] if method.compares_with_old else []
    if method.beside:
        against.append((method.beside, method.beside))
    parts = [_standings(method.name, other, spelt, found) for other, spelt in against]
    said = "; ".join(part for part in parts if part)
    sentences = [said[:1].upper() + said[1:] + "."] if said else []
    if method.remark:
        sentences.append(method.remark)
    runs = [run for each in found.values() for run in each.get(method.name, [])]
    short = sorted({(run.epochs, run.published) for run in runs if run.epochs < run.published})
    sentences += [f"Shortened: {epochs} of {published} epochs." for epochs, published in short]
    return " ".join(sentences)


def _standings(name: str, other: str, spelt: str, found: Found) -> str:
    """Compare on every corpus: `above x on a and b, below on c`."""
    corpora: dict[Significance, list[str]] = {}
    for corpus, methods in found.items():
        standing = compare_runs(methods.get(name, []), methods.get(other, []))
        if standing is not None:
            corpora.setdefault(standing, []).append(corpus)
    parts: list[str] = []
    for standing, word in WORDS.items():
        if standing in corpora:
            where = corpora[standing]
            listed = "everywhere" if len(where) == len(found) > 1 else f"on {_listed(where)}"
            named = spelt if not parts else "it"
            parts.append(f"{word} {named} {listed}")
    return ", ".join(parts)


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _answered(run: Run) -> PerQuery:
    """Read which test queries were answered; the digits end in bits of no query."""
    packed = np.frombuffer(bytes.fromhex(run.hits[""]), np.uint8)
    return np.unpackbits(packed).astype(np.float64)
