"""Large-to-small: queries of fewer pixels than the gallery.

Suma & Tolias, "Large-to-small Image Resolution Asymmetry in Deep Metric Learning", WACV 2023, arXiv
2210.05463. A gallery is embedded from large pictures, queries from small ones, by a network that is
trained so that both views of a picture agree with the large one's vector.

Changed: nothing of the network is trained. The gallery has 64 pixels, queries have 32 (enlarged
again by the same tower), and a ridge map from small to large vectors of the same pictures is the
remedy (`large_to_small`); `small_queries` is without it. The query is a picture that looks for
itself, so these rows compare with each other, and not with the old model.
"""

from __future__ import annotations

from functools import partial

from xbtmigrate.evaluation.retrieval import SearchSpace
from xbtmigrate.training.kinds.closed_form import PENALTIES, ridge
from xbtmigrate.training.moments import Moments
from xbtmigrate.types import Modality, Vectors
from xbtmigrate_research.method import Method, Needs, Outcome
from xbtmigrate_research.pictures import new_model, read_pictures
from xbtmigrate_research.trial import Rows, Trial

SIZE = 32
SOURCE = "Suma & Tolias, WACV 2023, 2210.05463"


def run(trial: Trial, *, remedy: bool, size: int = SIZE) -> Outcome:
    """Embed small queries, and map them to the space of large pictures."""
    model, corpus = new_model(trial), trial.corpus

    def small(rows: Rows) -> Vectors:
        return model.encode(read_pictures(trial, rows, size), Modality.IMAGE)

    queries = small(corpus.rel)
    tried = [SearchSpace(queries, corpus.new)]
    if remedy:
        moments = Moments.of(small(trial.rows), corpus.new[trial.rows])
        maps = [ridge(moments, {"penalty": penalty}) for penalty in PENALTIES]
        tried = [SearchSpace(each(queries), corpus.new) for each in maps]
    return Outcome(tried[trial.tune(tried)])


METHODS = (
    Method(
        "small_queries", SOURCE, partial(run, remedy=False), Needs(pairs=False), "no",
        remark="Pictures look for themselves.",
        corpora=("clipart",), compares_with_old=False,
    ),
    Method(
        "large_to_small", SOURCE, partial(run, remedy=True), Needs(), "bridge, kind `ridge`",
        beside="small_queries", corpora=("clipart",), compares_with_old=False,
    ),
)  # fmt: skip
