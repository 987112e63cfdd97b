"""One space on the corpora beside the checkout: rows to compare with, maps, curves; run by hand.

python benchmarks/maps.py --corpus debian --pairs 6000 --seeds 0 1 2
python benchmarks/maps.py --corpus clipart --pairs 4000 --kinds gaussian_process --figure FILE

Corpora: `debian` (TF-IDF/SVD to MiniLM), `neural` (MiniLM to multilingual-e5-small), `clipart`
(pictures found by captions, without words). Nothing but the pairs is re-encoded for the rows; no
test query asks for a point of the pairs. Strengths (centring, weight of the lexical score) are
chosen on the queries of even number; every figure is of those of odd number. Fusions are calibrated
as `train-projector` does it: on captions of the pairs' pictures, and where points are texts, on
points that ask for their nearest point.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from xbtmigrate_research.corpora import CORPORA, Corpus, read_corpus
from xbtmigrate_research.trial import Trial

from xbtmigrate.evaluation.answer_ranks import evaluate
from xbtmigrate.evaluation.curves import Curve, measure_curves
from xbtmigrate.evaluation.mixed_gallery import Centred, Serving, Single
from xbtmigrate.evaluation.retrieval import (
    QueryScores,
    Relevance,
    Rows,
    SearchSpace,
    judge,
    rank_top_k,
)
from xbtmigrate.scoring.conditional_logit import CalibrationSet, calibrate
from xbtmigrate.scoring.fusion import CalibratedServing
from xbtmigrate.side_information import Vocabulary, collect_vocabulary
from xbtmigrate.training import FitReport
from xbtmigrate.training.fit_centring import CentringTask, fit_centring
from xbtmigrate.types import Channel, Direction, Distance, Vectors, normalized
from xbtmigrate.workflows.evaluate.trial import ChannelVectors
from xbtmigrate.workflows.train.known_queries import MAX_POINTS_AS_QUERIES, KnownQueries

DATA = Path("../shared/data")
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def measured(scores: Vectors, rel: npt.NDArray[np.intp], part: slice) -> QueryScores:
    """Judge the queries of a part."""
    return judge(rank_top_k(scores[part], 100), Relevance.from_rows(rel[part, None].tolist()))


def best(candidates: list[Vectors], rel: npt.NDArray[np.intp]) -> Vectors:
    """The scores that are best on the queries of even number."""
    even = [measured(each, rel, slice(0, None, 2)).means["recall@10"] for each in candidates]
    return candidates[int(np.argmax(even))]


def centred(queries: Vectors, gallery: Vectors) -> list[Vectors]:
    """Scores of queries with a part of their component along the gallery's mean taken away."""
    mean = normalized(gallery.mean(axis=0, keepdims=True))[0]
    return [(queries - s * (queries @ mean)[:, None] * mean) @ gallery.T for s in STRENGTHS]


def fixed_rows(corpus: Corpus, vocabulary: Vocabulary) -> dict[str, Vectors]:
    """Scores of what needs no migration, and of the end of one."""
    weights = vocabulary.weigh(corpus.texts)
    lexical = np.float32((vocabulary.weigh(corpus.asked) @ weights.T).toarray())
    keep, full = corpus.asked_old @ corpus.old.T, corpus.asked_new @ corpus.new.T
    even = [keep + share * lexical for share in (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)]
    return {
        "keep": keep,
        "keep, centred": best(centred(corpus.asked_old, corpus.old), corpus.rel),
        "lexical": lexical,
        "hybrid keep": best(even, corpus.rel),
        "full": full,
        "full, centred": best(centred(corpus.asked_new, corpus.new), corpus.rel),
    }


def run(corpus: Corpus, given: argparse.Namespace, seed: int) -> None:
    """Fit on pairs of one seed and print what the maps are worth."""
    trial = Trial(corpus, given.pairs, seed)
    started = time.process_time()
    report = trial.fit(Direction.FORWARD, given.kinds, words=True)
    taken = time.process_time() - started
    print(f"seed {seed}, {given.pairs} pairs; forward: {taken:.1f} s of processor time")
    print("  settings", dict(report.projector.manifest.hyperparameters))
    side = trial.sides.get(Direction.FORWARD)
    for projector in (*report.others, report.projector):
        scores = corpus.asked_new @ projector.apply(corpus.old, side).T
        show(
            f"{projector.kind}{', words' if projector.d_side else ''}",
            measured(scores, corpus.rel, slice(1, None, 2)),
        )
    started = time.process_time()
    bridge = trial.fit(Direction.BRIDGE, given.kinds, words=True)
    taken = time.process_time() - started
    print(f"  bridge: {taken:.1f} s of processor time")
    print("  settings", dict(bridge.projector.manifest.hyperparameters))
    for projector in (*bridge.others, bridge.projector):
        bridged = projector.apply_to_queries(corpus.asked_new, corpus.asked)
        show(
            f"bridge:{projector.kind}{', words' if projector.d_side else ''}",
            measured(bridged @ corpus.old.T, corpus.rel, slice(1, None, 2)),
        )
    curves(trial, report, bridge, given.figure)


def curves(trial: Trial, forward: FitReport, bridge: FitReport, figure: Path | None) -> None:
    """Print and draw the mixed gallery on its way, and where it reaches keep."""
    corpus, odd = trial.corpus, slice(1, None, 2)
    relevance = Relevance.from_rows(corpus.rel[odd, None].tolist())
    keep = evaluate(SearchSpace(corpus.asked_old[odd], corpus.old), relevance)
    side, projector = trial.sides.get(Direction.FORWARD), forward.projector
    projected = projector.apply(corpus.old, side)
    uncertainty = projector.uncertainty(corpus.old, side)
    orders = {
        "random": np.random.default_rng(1000 + trial.seed).permutation(len(projected)),
        "uncertainty": np.argsort(-uncertainty, kind="stable"),
    }
    sides = ChannelVectors(corpus.old, projected, corpus.new, Distance.COSINE, Distance.COSINE)
    bridged = bridge.projector.apply_to_queries(corpus.asked_new, corpus.asked)
    asked = {Channel.OLD: corpus.asked_old, Channel.BRIDGE: bridged}
    spaces = {
        channel: sides.space(channel, asked.get(channel, corpus.asked_new)[odd])
        for channel in (Channel.OLD, Channel.BRIDGE, Channel.FORWARD, Channel.NEW)
    }
    servings: list[Serving | Centred] = [Single("uncentred"), *fused(trial, forward, bridge, sides)]
    single = centred_single(corpus, projected, orders["uncertainty"])
    # Without centring both would be the same curve.
    servings = [Single(), *servings[1:]] if single is None else [single, *servings]
    found = measure_curves(spaces, relevance, orders=orders, servings=servings)
    if figure is not None:
        draw(
            [curve for curve in found if curve.serving == "single"], keep.means["recall@10"], figure
        )
    for curve in found:
        values = " ".join(f"{value:.3f}" for value in curve.values())
        at = curve.smallest_fraction(keep.means["recall@10"])
        interval = curve.crossover_interval(keep, seed=0)
        print(
            f"  {curve.serving}, {curve.ordering}: AUC {curve.auc():.3f}; {values}; "
            f"keep at {at}, 95 % {interval}",
            flush=True,
        )


def centred_single(corpus: Corpus, projected: Vectors, order: Rows) -> Centred | None:
    """The single space with queries centred as the queries of even number have it."""
    even, odd = slice(0, None, 2), slice(1, None, 2)
    if corpus.pictures:
        return None
    relevance = Relevance.from_rows(corpus.rel[even, None].tolist())
    texts, queries = corpus.asked[even], corpus.asked_new[even]
    task = CentringTask(texts, queries, relevance, projected, corpus.new, order, Distance.COSINE)
    found = fit_centring(task, forward="", basis="")
    if found is None or not any(found.strengths):
        return None
    print("  centred by", " ".join(f"{each:.2f}" for each in found.strengths))
    mean = np.asarray(found.mean, np.float32)
    strengths = np.tile(np.asarray(found.strengths, np.float32), (len(corpus.rel[odd]), 1))
    along = {Channel.FORWARD: projected @ mean, Channel.NEW: corpus.new @ mean}
    return Centred(corpus.asked_new[odd] @ mean, strengths, along)


def fused(
    trial: Trial, forward: FitReport, bridge: FitReport, gallery: ChannelVectors
) -> list[Serving | Centred]:
    """The calibrated fusions, with and without the old model."""
    corpus, rows = trial.corpus, trial.rows
    ids, projector = [str(row) for row in rows], forward.projector
    side = trial.sides.get(Direction.FORWARD)
    projected = projector.apply(corpus.old[rows], None if side is None else side[rows])
    assert forward.unseen is not None
    projected = forward.unseen.of(ids, projected)
    count = min(MAX_POINTS_AS_QUERIES, len(rows) // 4)
    searched = slice(None) if corpus.pictures else slice(count, None)
    points = [ids[row] for row in range(len(rows))[searched]]
    sides = ChannelVectors(
        corpus.old[rows][searched], projected[searched], corpus.new[rows][searched],
        Distance.COSINE, Distance.COSINE,
    )  # fmt: skip
    first = rows[:count]
    old, new = (each[first] for each in (corpus.questions if corpus.pictures else
                                         (corpus.old, corpus.new)))  # fmt: skip
    bridged = bridge.projector.apply_to_queries(new, [corpus.texts[row] for row in first])
    if not corpus.pictures and bridge.unseen is not None:
        bridged = bridge.unseen.of(ids[:count], bridged)
    answers = np.arange(count) if corpus.pictures else (new @ sides.new.T).argmax(axis=1)
    known = KnownQueries(ids[:count], answers, old, new, bridged)
    asked, bank = known.rest(0), known.rest(1).bank()
    hubness, order = sides.hubness(bank, points), np.arange(len(asked.rows))
    sample = CalibrationSet(sides.blocks(asked.old, asked.new, asked.bridged), order, asked.rows)
    waiting, encoded = (Channel.BRIDGE, Channel.FORWARD), (Channel.NEW, Channel.BRIDGE)
    found = calibrate(replace(sample, hubness=hubness), seed=trial.seed)
    without = calibrate(sample, waiting=waiting, encoded=encoded, seed=trial.seed)
    hubs = gallery.hubness(bank, [str(row) for row in range(len(corpus.old))])
    return [CalibratedServing(found, hubs), CalibratedServing(without, {}, "calibrated_bridge")]


def draw(found: Sequence[Curve], keep: float, file: Path) -> None:
    """Quality by the share of points that are re-encoded, between keep and full."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    ax = figure.subplots()
    full = found[0].values()[-1]
    for level, color, label in ((full, "#777777", "full"), (keep, "#bbbbbb", "keep")):
        ax.axhline(level, color=color, linestyle="--", linewidth=1)
        ax.text(1.01, level, f"{label} {level:.2f}", color="#777777", va="center", fontsize=8)
    colors = {"uncertainty": "#1f6fb4", "random": "#9ac3e6"}
    for curve in found:
        color = colors[curve.ordering]
        ax.plot(curve.fractions, curve.values(), color=color, label=f"{curve.ordering} order")
    ax.set(xlabel="share of points embedded again", ylabel="recall@10", xlim=(0, 1), ylim=(0, None))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="lower right", fontsize=8, frameon=False)
    figure.savefig(file, metadata={"Date": None})


def show(name: str, found: QueryScores) -> None:
    """Print a row."""
    print(f"  {name:28s} {found.means['recall@1']:.3f} {found.means['recall@10']:.3f}", flush=True)


def main() -> None:
    """Run from the checkout's root."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", choices=CORPORA, default="debian")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--kinds", nargs="+", default=["auto"])
    parser.add_argument("--figure", type=Path, help="SVG file for the curves of the last seed")
    given = parser.parse_args()
    corpus = read_corpus(given.corpus, DATA)
    vocabulary = collect_vocabulary(corpus.texts)
    print(f"{given.corpus}: {len(corpus.old)} points, {len(corpus.rel) // 2} queries")
    print(f"  {'':28s} recall@1 recall@10")
    for name, scores in fixed_rows(corpus, vocabulary).items():
        show(name, measured(scores, corpus.rel, slice(1, None, 2)))
    for seed in given.seeds:
        run(corpus, given, seed)


if __name__ == "__main__":
    main()
