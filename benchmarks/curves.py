"""Backfilling curves on the Debian corpus beside the checkout: orders x servings; run by hand.

python benchmarks/curves.py --kind mlp --spent 6000 --json figures.json

The `--spent` documents re-encoded for training pairs are all that is known of the new space before
the backfill: projector, uncertainty, bank of queries and calibration are made from them and their
own queries alone. Test queries ask for other documents. With `--count-spent` the curve pays for
those documents first, and is keep's until they are paid for.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from projectors import lookup
from xbtmigrate_research.gated import GatedServing, choose_gate
from xbtmigrate_research.reciprocal_ranks import ReciprocalRanks
from xbtmigrate_research.shared_space import SHARED_SPACE_3, SHARED_SPACE_12
from xbtmigrate_research.two_stage import TwoStage

from xbtmigrate.evaluation.answer_ranks import evaluate
from xbtmigrate.evaluation.comparison import bootstrap_intervals, compare
from xbtmigrate.evaluation.curves import Curve, measure_curves
from xbtmigrate.evaluation.mixed_gallery import Merge, Serving, Single
from xbtmigrate.evaluation.retrieval import (
    DEPTH,
    QueryScores,
    Relevance,
    SearchSpace,
    judge,
    rank_top_k,
)
from xbtmigrate.ordering import (
    BenefitOrdering,
    CentroidOrdering,
    CombinedOrdering,
    RandomOrdering,
    UncertaintyOrdering,
    rank,
)
from xbtmigrate.ordering.benefit import BenefitModel, FeatureInputs, Reference
from xbtmigrate.projectors import Projector
from xbtmigrate.scoring.calibration import Bank, Calibration
from xbtmigrate.scoring.conditional_logit import CalibrationSet, calibrate
from xbtmigrate.scoring.fusion import CalibratedServing, Fusion, hubness
from xbtmigrate.scoring.slerp import SlerpServing, choose_alpha, slerp
from xbtmigrate.training import (
    FitOptions,
    ModelSpace,
    Pairs,
    PairSource,
    SelectionTask,
    find_trainer,
    fit,
)
from xbtmigrate.training.learn_benefit import fit_estimates, measure_benefit
from xbtmigrate.training.make_problem import make_problem
from xbtmigrate.types import Channel, Direction, Distance, Vectors, normalized

FOLDS = 4
MAX_QUERIES = 3000
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Vectors of both models; query number i asks for document number i."""

    old: Vectors
    new: Vectors
    queries_old: Vectors
    queries_new: Vectors
    test: Rows
    train: Rows

    def spaces(self, queries: Rows, rows: Rows, projected: Vectors) -> dict[Channel, SearchSpace]:
        """Build the three channels of some queries over some documents."""
        return {
            Channel.OLD: SearchSpace(self.queries_old[queries], self.old[rows]),
            Channel.FORWARD: SearchSpace(self.queries_new[queries], projected),
            Channel.NEW: SearchSpace(self.queries_new[queries], self.new[rows]),
        }


@dataclass(frozen=True, slots=True)
class Maps:
    """What is learned from the spent documents."""

    forward: Projector
    bridge: Projector
    unseen: Vectors  # projections of the spent documents by maps that had not seen them


def load(data: Path) -> Corpus:
    """Read synopses as queries and descriptions as documents."""
    folder = data / "text"
    packages = pq.read_table(folder / "debian-packages.parquet").to_pydict()
    queries = pq.read_table(folder / "queries.parquet").to_pydict()
    row_of = {str(point): row for row, point in enumerate(packages["id"])}
    answer = np.array([row_of[ids[0]] for ids in queries["relevant"]])
    texts = [queries["text"][number] for number in np.argsort(answer)]
    old, new = (folder / f"{name}-by-text.parquet" for name in ("old-svd128", "new-minilm384"))
    is_test = np.array(queries["split"])[np.argsort(answer)] == "test"
    return Corpus(
        *(lookup(file, packages["description"]) for file in (old, new)),
        *(lookup(file, texts) for file in (old, new)),
        np.flatnonzero(is_test),
        np.flatnonzero(~is_test),
    )


def held_out(spent: Rows) -> Rows:
    """Documents in front that no map is fitted on, to choose maps and blends by."""
    return spent[: len(spent) // 10]


def learn(corpus: Corpus, spent: Rows, options: FitOptions) -> Maps:
    """Fit both directions, and project the spent documents by folds."""
    held = held_out(spent)
    kept = spent[len(held) :]
    pairs = Pairs(
        [str(row) for row in kept],
        [""] * len(kept),
        corpus.old[kept],
        corpus.new[kept],
        PairSource.TEXT,
    )
    task = SelectionTask(
        corpus.queries_new[held],
        corpus.old[spent],
        [np.array([place]) for place in range(len(held))],
        corpus.queries_old[held],
        corpus.new[spent],
    )
    forward = fit(Direction.FORWARD, [pairs], task, options)
    bridge = fit(Direction.BRIDGE, [pairs], task, replace(options, kinds=["ridge"]))
    best = forward.candidates[0]
    spaces = (options.old, options.new)
    problem = make_problem(
        Direction.FORWARD, pairs, task, spaces, seed=options.seed, threads=options.threads
    )
    x, y = normalized(corpus.old[spent]), normalized(corpus.new[spent])
    unseen = np.empty_like(y)
    for number in range(FOLDS):
        out = np.arange(len(spent)) % FOLDS == number
        part = replace(problem, x=x[~out], y=y[~out])
        unaware = find_trainer(best.kind).fit(part, best.settings).architecture
        unseen[out] = problem.project(unaware, x[out])
    return Maps(forward.projector, bridge.projector, unseen)


def hubs(spaces: dict[Channel, SearchSpace], bank: Rows, rows: Rows) -> dict[Channel, Vectors]:
    """Hubness of documents in each channel; the bank's own documents leave their query out."""
    found = {}
    for channel, space in spaces.items():
        points = SearchSpace(space.gallery, space.query)
        found[channel] = np.concatenate(
            [
                hubness(points.score(part), rows[part, None] == bank[None, :])
                for part in (slice(at, at + 2000) for at in range(0, len(rows), 2000))
            ]
        )
    return found


def gated(
    corpus: Corpus, maps: Maps, spent: Rows, blocks: dict[Channel, Vectors], answers: Rows
) -> GatedServing:
    """Choose on queries of the spent documents which ones are left to the old space."""
    relevance = Relevance.from_rows(answers[:, None].tolist())
    none = np.zeros(len(spent), np.bool_)

    def quality(left: npt.NDArray[np.bool_]) -> float:
        ranked = rank_top_k(GatedServing(left).score(blocks, none), DEPTH)
        return judge(ranked, relevance).means["mrr@10"]

    gate = choose_gate(maps.forward.uncertainty(corpus.old[spent]), quality)
    left = maps.forward.uncertainty(corpus.old) > gate
    print(f"the gate leaves {left.mean():.0%} of the documents to the old space")
    return GatedServing(left)


def servings(
    corpus: Corpus, maps: Maps, spent: Rows, projected: Vectors, seed: int
) -> tuple[list[Serving], Fusion]:
    """Calibrate on half of the spent documents' queries; the other half is the bank."""
    everything = np.arange(len(corpus.old))
    bank, asked = spent[1::2][:MAX_QUERIES], spent[::2][:MAX_QUERIES]
    spaces = corpus.spaces(asked, spent, maps.unseen)
    blocks = {channel: space.score() for channel, space in spaces.items()}
    pairs = np.arange(len(asked)), np.arange(len(spent))[::2][:MAX_QUERIES]
    near = hubs(corpus.spaces(bank, spent, maps.unseen), bank, spent)
    known = hubs(corpus.spaces(bank, everything, projected), bank, everything)
    plain, corrected = CalibrationSet(blocks, *pairs), CalibrationSet(blocks, *pairs, near)
    new_only = calibrate(plain, encoded=[Channel.NEW], seed=seed)
    old_only = calibrate(corrected, waiting=[Channel.OLD], encoded=[Channel.NEW], seed=seed)
    fusion = calibrate(corrected, seed=seed)
    print(fusion)
    fused = CalibratedServing(fusion, known, "calibrated, hubness")
    return [
        Single(),
        Merge(),
        gated(corpus, maps, spent, blocks, pairs[1]),
        SlerpServing(),
        ReciprocalRanks(),
        CalibratedServing(new_only, {}, "calibrated, new alone"),
        CalibratedServing(calibrate(plain, seed=seed), {}, "calibrated"),
        CalibratedServing(old_only, known, "merge, hubness"),
        TwoStage(fused),
        fused,
    ], fusion


def learn_benefit(
    corpus: Corpus, maps: Maps, spent: Rows, fusion: Fusion, seed: int
) -> BenefitModel:
    """Learn what re-encoding a document is worth, from the queries of the spent documents."""
    ids = [str(row) for row in spent]
    halves = [np.arange(len(spent))[half::2][:MAX_QUERIES] for half in (1, 0)]
    known, rows = spent[halves[0]], np.concatenate(halves)
    near = hubs(corpus.spaces(known, spent, maps.unseen), known, spent)
    spaces = corpus.spaces(spent[rows], spent, maps.unseen)

    def states(part: slice) -> tuple[Vectors, Vectors]:
        blocks = {channel: space.score(part) for channel, space in spaces.items()}
        waiting, encoded = (
            fusion.score(blocks, near, np.full(len(spent), state)) for state in (False, True)
        )
        return waiting, encoded

    own = np.arange(len(known)), halves[0]
    old, new = corpus.queries_old[known], corpus.queries_new[known]
    bank = Bank([str(row) for row in known], old, new, maps.bridge.apply(new))
    around = FeatureInputs(
        Calibration(fusion, fusion, 0.0, bank, ("", "")),
        np.stack([state[own] for state in states(slice(0, len(known)))], axis=1),
        Reference(ids[:2000], corpus.old[spent[:2000]], maps.unseen[:2000]),
        Distance.COSINE,
        Distance.COSINE,
    )
    features = around.features(
        ids, corpus.old[spent], maps.unseen, maps.forward.uncertainty(corpus.old[spent])
    )
    scale = len(corpus.old) / len(spent)
    measured = measure_benefit(states, rows, scale=scale, seed=seed)
    return BenefitModel(around, *fit_estimates(features, rows, measured, seed=seed), "")


def orders(
    corpus: Corpus, maps: Maps, benefit: BenefitModel, projected: Vectors, seed: int
) -> dict[str, Rows]:
    """Rank every document by each order; the last one needs the answer."""
    ids = [str(row) for row in range(len(corpus.old))]
    learned = {"projector": maps.forward, "benefit": benefit}
    chosen = {
        "random": RandomOrdering(seed=seed),
        "centroid": CentroidOrdering(seed=seed),
        "uncertainty": UncertaintyOrdering(projector=maps.forward),
        "combined": CombinedOrdering(**learned),
        "benefit": BenefitOrdering(**learned),
    }
    ranked = {name: rank(ids, order.score(ids, corpus.old)) for name, order in chosen.items()}
    true_error = np.linalg.norm(projected - corpus.new, axis=1).astype(np.float32)
    return ranked | {"oracle": rank(ids, true_error)}


def paid(curve: Curve, share: float, keep: QueryScores) -> Curve:
    """Serve keep until the training pairs are paid for."""
    points = zip(curve.fractions, curve.points, strict=True)
    return replace(curve, points=tuple(keep if f < share else point for f, point in points))


def ahead_of(curve: Curve, other: Curve, seed: int) -> tuple[float, float]:
    """Bootstrap interval of the difference of two areas, query by query."""
    areas = [np.mean([p.values["recall@10"] for p in each.points], 0) for each in (curve, other)]
    found = bootstrap_intervals((areas[0] - areas[1])[:, None], seed=seed)[0]
    return found.low, found.high


def report(
    curve: Curve, first: Curve, keep: QueryScores, full: QueryScores, seed: int
) -> dict[str, object]:
    """Print one line and return the figures; `first` is what the area is compared with."""
    low, high = curve.auc_interval(seed=seed).low, curve.auc_interval(seed=seed).high
    more = ahead_of(curve, first, seed)
    start = compare(curve.points[0], keep, full, seed=seed)
    reach = curve.fractions_to_full(full)
    shown = {share: "-" if f is None else f"{f:.2f}" for share, f in reach.items()}
    print(
        f"{curve.serving:22} {curve.ordering:12} {curve.auc():.3f} [{low:.3f} {high:.3f}] "
        f"({more[0]:+.3f} {more[1]:+.3f}) {curve.auc('mrr@10'):.3f}  "
        f"{' '.join(f'{value:.3f}' for value in curve.values())}  "
        f"{' '.join(shown.values()):16} {'yes' if curve.no_regret(keep) else 'no':4}"
        f"{start.p_value['recall@10']:.4f} {start.p_value['mrr@10']:.4f}"
    )
    return {
        "ordering": curve.ordering,
        "serving": curve.serving,
        "fractions": curve.fractions,
        "recall@10": curve.values(),
        "mrr@10": curve.values("mrr@10"),
        "auc": curve.auc(),
        "auc_ci95": [low, high],
        "auc_ahead_of_random_ci95": more,
        "fractions_to_full": {str(share): f for share, f in reach.items()},
        "no_regret": curve.no_regret(keep) and curve.no_regret(keep, "mrr@10"),
        "start": {
            "ci95": [start.ci95["recall@10"].low, start.ci95["recall@10"].high],
            "p_value": dict(start.p_value),
            "negative_flips": start.negative_flips,
        },
    }


def search_spaces(
    corpus: Corpus, maps: Maps, spent: Rows, projected: Vectors
) -> tuple[dict[Channel, SearchSpace], float]:
    """Build every channel of the test queries; the blend is chosen on held-out pairs."""
    everything, asked = np.arange(len(corpus.old)), held_out(spent)
    answers = Relevance.from_rows(np.arange(len(asked))[:, None].tolist())
    alpha, _ = choose_alpha(
        corpus.queries_old[asked],
        maps.bridge.apply(corpus.queries_new[asked]),
        lambda q: evaluate(SearchSpace(q, corpus.old[spent]), answers).means["mrr@10"],
    )
    bridged = maps.bridge.apply(corpus.queries_new[corpus.test])
    blended = slerp(corpus.queries_old[corpus.test], bridged, alpha)
    return corpus.spaces(corpus.test, everything, projected) | {
        Channel.BRIDGE: SearchSpace(bridged, corpus.old),
        Channel.BLEND: SearchSpace(blended, corpus.old),
    }, alpha


def measure(corpus: Corpus, arguments: argparse.Namespace) -> dict[str, object]:
    """Learn, calibrate, measure every curve."""
    started, seed = time.monotonic(), arguments.seed
    spent = np.random.default_rng(seed).permutation(corpus.train)[: arguments.spent]
    old, new = (ModelSpace(name, Distance.COSINE) for name in ("old", "new"))
    options = FitOptions(old, new, [arguments.kind], seed, arguments.threads)
    maps = learn(corpus, spent, options)
    projected = maps.forward.apply(corpus.old)
    channels, alpha = search_spaces(corpus, maps, spent, projected)
    relevance = Relevance.from_rows(corpus.test[:, None].tolist())
    cells = {channel: evaluate(space, relevance) for channel, space in channels.items()}
    for channel, scores in cells.items():
        print(f"{channel:10}", {metric: round(mean, 4) for metric, mean in scores.means.items()})
    print(f"forward is {maps.forward.kind}, blend is slerp {alpha}")
    ways, fusion = servings(corpus, maps, spent, projected, seed)
    benefit = learn_benefit(corpus, maps, spent, fusion, seed)
    ranked = orders(corpus, maps, benefit, projected, seed)
    if arguments.count_spent:
        ranked = {
            name: np.concatenate([spent, order[~np.isin(order, spent)]])
            for name, order in ranked.items()
        }
    curves = measure_curves(channels, relevance, orders=ranked, servings=ways[-1:])
    plain = {name: ranked[name] for name in ("random", "benefit")}
    curves += measure_curves(channels, relevance, orders=plain, servings=ways[:-1])
    for spec in (SHARED_SPACE_3, SHARED_SPACE_12):
        assert spec.remap is not None
        assert spec.measure is not None
        apply, serving = spec.remap(corpus.old[spent], corpus.new[spent]), spec.measure(None)
        assert apply is not None
        assert serving is not None
        spaces = [(channel, channels[channel]) for channel in serving.channels]
        own = {name: SearchSpace(apply(each.query), apply(each.gallery)) for name, each in spaces}
        curves += measure_curves(own, relevance, orders=plain, servings=[serving])
    keep, full = cells[Channel.OLD], cells[Channel.NEW]
    if arguments.count_spent:
        curves = [paid(curve, len(spent) / len(corpus.old), keep) for curve in curves]
    print(
        "serving                order        AUC [95 %] (ahead of random) of MRR  "
        "R@10 at 0, .1 ... 1; 90/95/98 % of full"
    )
    randoms = {c.serving: c for c in curves if c.ordering == "random"}
    rows = [report(curve, randoms[curve.serving], keep, full, seed) for curve in curves]
    print(f"{time.monotonic() - started:.0f} s")
    means = {channel.value: scores.means for channel, scores in cells.items()}
    return {"arguments": vars(arguments), "alpha": alpha, "cells": means, "curves": rows}


def main() -> None:
    """Parse, measure, print, write."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser = argparse.ArgumentParser(description="Measure backfilling curves")
    parser.add_argument("--data", type=Path, default=default, help="folder of the corpora")
    parser.add_argument("--kind", choices=["ridge", "mlp"], default="ridge")
    parser.add_argument("--spent", type=int, default=6000, help="documents re-encoded for pairs")
    parser.add_argument("--count-spent", action="store_true", help="the curve pays for them first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    figures = measure(load(arguments.data), arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2, default=str) + "\n")


if __name__ == "__main__":
    main()
