"""One space on the corpora beside the checkout: rows to compare with, maps, curves; run by hand.

python benchmarks/maps.py --corpus debian --pairs 6000 --seeds 0 1 2
python benchmarks/maps.py --corpus clipart --pairs 4000 --kinds gaussian_process --figure FILE

Corpora: `debian` (TF-IDF/SVD to MiniLM), `neural` (MiniLM to multilingual-e5-small), `clipart`
(pictures found by captions, without words). Nothing but the pairs is re-encoded for the rows; no
test query asks for a point of the pairs. Strengths (centring, weight of the lexical score) are
chosen on the queries of even number; every figure is of those of odd number.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from xbtmigrate.evaluation.curves import Curve, measure_curves
from xbtmigrate.evaluation.mixed_gallery import Single
from xbtmigrate.evaluation.retrieval import (
    QueryScores,
    Relevance,
    SearchSpace,
    evaluate,
    judge,
    rank_top_k,
)
from xbtmigrate.side_information import (
    TextSide,
    Vocabulary,
    collect_vocabulary,
    fit_lexical,
    fit_words,
)
from xbtmigrate.training import FitOptions, ModelSpace, Pairs, PairSource, SelectionTask, fit
from xbtmigrate.types import Channel, Direction, Distance, Vectors, normalized, vectors_of

DATA = Path("../shared/data")
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
HELD_OUT = 1000


@dataclass(frozen=True)
class Corpus:
    """Queries and gallery in both models; `rel` is each query's row."""

    texts: list[str]
    asked: list[str]
    old: Vectors
    new: Vectors
    asked_old: Vectors
    asked_new: Vectors
    rel: npt.NDArray[np.intp]
    captions: Vectors | None = None
    words: dict[str, Vectors] | None = None
    old_words: dict[str, Vectors] | None = None


def by_key(name: str) -> dict[str, Vectors]:
    """Read a Parquet of keys and vectors."""
    table = pq.read_table(DATA / "text" / f"{name}.parquet")
    return dict(zip(table["key"].to_pylist(), np.float32(vectors_of(table, "vector")), strict=True))


def text_corpus(
    old: str, new: str, queries: str, words: str, *, documents: str = "", old_words: str = ""
) -> Corpus:
    """Descriptions, asked for by synopses."""
    first, second = by_key(old), by_key(new)
    rows = pq.read_table(DATA / "text" / "debian-packages.parquet").to_pylist()
    if documents:
        kept = set(pq.read_table(DATA / "text" / f"{documents}.parquet")["id"].to_pylist())
        rows = [row for row in rows if row["id"] in kept]
    place = {str(row["id"]): number for number, row in enumerate(rows)}
    asked = [
        each
        for each in pq.read_table(DATA / "text" / f"{queries}.parquet").to_pylist()
        if each.get("split", "test") == "test" and each["relevant"][0] in place
    ]
    texts, queried = [row["description"] for row in rows], [each["text"] for each in asked]
    of = [
        normalized(np.stack([m[t] for t in ts])) for ts in (texts, queried) for m in (first, second)
    ]
    rel = np.array([place[each["relevant"][0]] for each in asked])
    first_words = by_key(old_words) if old_words else None
    return Corpus(texts, queried, *of, rel, words=by_key(words), old_words=first_words)


def clipart() -> Corpus:
    """Pictures of all splits, asked for by the captions of val."""
    pairs = pq.read_table(DATA / "clipart" / "pairs.parquet", columns=["id", "caption", "split"])
    table = pq.read_table(DATA / "clipart" / "embeddings.parquet")
    assert table["id"].equals(pairs["id"])
    names = ("old_img", "new_img", "old_txt", "new_txt")
    old, new, old_text, new_text = (normalized(np.float32(vectors_of(table, n))) for n in names)
    rel = np.flatnonzero(np.array(pairs["split"].to_pylist()) == "val")
    texts = pairs["caption"].to_pylist()
    asked = [texts[row] for row in rel]
    return Corpus(texts, asked, old, new, old_text[rel], new_text[rel], rel, captions=new_text)


def read(name: str) -> Corpus:
    """Read a corpus."""
    if name == "clipart":
        return clipart()
    if name == "neural":
        files = "new-minilm384-by-text", "e5-small384-by-text", "e5-queries", "words-e5-small384"
        return text_corpus(*files, documents="e5-documents", old_words="words-minilm384")
    return text_corpus("old-svd128-by-text", "new-minilm384-by-text", "queries", "words-minilm384")


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


def sides_of(
    corpus: Corpus, vocabulary: Vocabulary, rows: npt.NDArray[np.intp]
) -> dict[Direction, TextSide]:
    """The tables of words, where the words were embedded."""
    made = {}
    embedded = {Direction.FORWARD: corpus.words, Direction.BRIDGE: corpus.old_words}
    for direction, of in embedded.items():
        if of is None:
            continue
        kept = [n for n, word in enumerate(vocabulary.words) if word in of]
        known = Vocabulary([vocabulary.words[n] for n in kept], vocabulary.rarity[kept])
        blocks = {"words": fit_words(np.stack([of[word] for word in known.words]))}
        if direction is Direction.FORWARD:
            blocks["lexical"] = fit_lexical(known, [corpus.texts[row] for row in rows[:6000]])
        made[direction] = TextSide(known, blocks)
    return made


def pairs_of(
    corpus: Corpus,
    rows: npt.NDArray[np.intp],
    side: Vectors | None,
    query_side: Vectors | None,
) -> list[Pairs]:
    """Pair the vectors of these rows; pictures with their own new vectors and with captions'."""
    source = PairSource.TEXT if corpus.captions is None else PairSource.IMAGE
    targets = {source: corpus.new, PairSource.CAPTION_IMAGE: corpus.captions}
    ids = [str(row) for row in rows]
    given = [None if each is None else each[rows] for each in (side, query_side)]
    return [
        Pairs(ids, [""] * len(rows), corpus.old[rows], target[rows], source, *given)
        for source, target in targets.items()
        if target is not None
    ]


def run(corpus: Corpus, vocabulary: Vocabulary, given: argparse.Namespace, seed: int) -> None:
    """Fit on pairs of one seed and print what the maps are worth."""
    count = given.pairs
    free = np.random.default_rng(seed).permutation(
        np.setdiff1d(np.arange(len(corpus.old)), corpus.rel)
    )
    rows = free[:count]
    started, cpu = time.monotonic(), time.process_time()
    sides = sides_of(corpus, vocabulary, rows)
    side, query_side = (
        sides[each].embed(corpus.texts) if each in sides else None
        for each in (Direction.FORWARD, Direction.BRIDGE)
    )
    held, kept = np.split(rows, [min(HELD_OUT, count // 5)])
    gallery = np.concatenate([held, kept])[:5000]
    task = SelectionTask(
        queries_new=(corpus.new if corpus.captions is None else corpus.captions)[held],
        gallery_old=corpus.old[gallery],
        relevant=[np.array([row]) for row in range(len(held))],
        gallery_new=corpus.new[gallery],
        gallery_side=None if side is None else side[gallery],
        queries_side=None if query_side is None else query_side[held],
        self_asked=corpus.captions is None,
        pairs=pairs_of(corpus, held, side, query_side),
    )
    spaces = ModelSpace("old", Distance.COSINE), ModelSpace("new", Distance.COSINE)
    options = FitOptions(*spaces, given.kinds, text_sides=sides, seed=seed)
    pairs = pairs_of(corpus, kept, side, query_side)
    report = fit(Direction.FORWARD, pairs, task, options)
    print(
        f"seed {seed}, {count} pairs: {time.process_time() - cpu:.1f} s of processor time "
        f"({time.monotonic() - started:.1f} s)",
    )
    print("  settings", dict(report.projector.manifest.hyperparameters))
    for projector in (*report.others, report.projector):
        scores = corpus.asked_new @ projector.apply(corpus.old, side).T
        show(
            f"{projector.kind}{', words' if projector.d_side else ''}",
            measured(scores, corpus.rel, slice(1, None, 2)),
        )
    chosen = report.projector
    projected, uncertainty = chosen.apply(corpus.old, side), chosen.uncertainty(corpus.old, side)
    curves(corpus, projected, uncertainty, seed, given.figure)
    bridge = fit(Direction.BRIDGE, pairs, task, options)
    print("  settings", dict(bridge.projector.manifest.hyperparameters), f"{bridge.seconds:.1f} s")
    for projector in (*bridge.others, bridge.projector):
        bridged = projector.apply_to_queries(corpus.asked_new, corpus.asked)
        show(
            f"bridge:{projector.kind}{', words' if projector.d_side else ''}",
            measured(bridged @ corpus.old.T, corpus.rel, slice(1, None, 2)),
        )


def curves(
    corpus: Corpus, projected: Vectors, uncertainty: Vectors, seed: int, figure: Path | None
) -> None:
    """Print and draw the one space on its way, and where it reaches keep."""
    odd = slice(1, None, 2)
    relevance = Relevance.from_rows(corpus.rel[odd, None].tolist())
    keep = evaluate(SearchSpace(corpus.asked_old[odd], corpus.old), relevance)
    spaces = {
        Channel.FORWARD: SearchSpace(corpus.asked_new[odd], projected),
        Channel.NEW: SearchSpace(corpus.asked_new[odd], corpus.new),
    }
    orders = {
        "random": np.random.default_rng(1000 + seed).permutation(len(projected)),
        "uncertainty": np.argsort(-uncertainty, kind="stable"),
    }
    found = measure_curves(spaces, relevance, orders=orders, servings=[Single()])
    if figure is not None:
        draw(found, keep.means["recall@10"], figure)
    for curve in found:
        values = " ".join(f"{value:.3f}" for value in curve.values())
        at = curve.smallest_fraction(keep.means["recall@10"])
        print(f"  {curve.ordering}: AUC {curve.auc():.3f}; {values}; keep at {at}, "
              f"95 % {curve.crossover_interval(keep, seed=0)}")  # fmt: skip


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
    parser.add_argument("--corpus", choices=("debian", "neural", "clipart"), default="debian")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--kinds", nargs="+", default=["auto"])
    parser.add_argument("--figure", type=Path, help="SVG file for the curves of the last seed")
    given = parser.parse_args()
    corpus = read(given.corpus)
    vocabulary = collect_vocabulary(corpus.texts)
    print(f"{given.corpus}: {len(corpus.old)} points, {len(corpus.rel) // 2} queries")
    print(f"  {'':28s} recall@1 recall@10")
    for name, scores in fixed_rows(corpus, vocabulary).items():
        show(name, measured(scores, corpus.rel, slice(1, None, 2)))
    for seed in given.seeds:
        run(corpus, vocabulary, given, seed)


if __name__ == "__main__":
    main()
