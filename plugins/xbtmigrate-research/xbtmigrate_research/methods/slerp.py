"""SLERP: blend the old query with the new one in the old space.

Ricci, Biondi, Pernici, 2026, arXiv 2609.39836. With u the old query, v the new query mapped into
the old space and t the angle between them, search with
sin((1 - a) t) / sin(t) u + sin(a t) / sin(t) v. Both models embed every query.

Changed: nothing; v is mapped by Procrustes, and a is chosen on the queries of even number.
"""

from __future__ import annotations

from xbtmigrate.evaluation.retrieval import SearchSpace
from xbtmigrate.scoring.slerp import choose_alpha, slerp
from xbtmigrate.types import Direction, Vectors
from xbtmigrate_research.method import Method, Needs, Outcome, answer_in_old
from xbtmigrate_research.trial import TUNING, Trial


def run(trial: Trial) -> Outcome:
    """Choose a and blend."""
    corpus = trial.corpus
    bridged = trial.fit(Direction.BRIDGE, ["procrustes"]).projector.apply(corpus.asked_new)

    def quality(queries: Vectors) -> float:
        return trial.judge(SearchSpace(queries, corpus.old), TUNING).means["recall@10"]

    alpha, _ = choose_alpha(corpus.asked_old, bridged, quality)
    return answer_in_old(trial, slerp(corpus.asked_old, bridged, alpha), f"a {alpha:g}")


METHODS = (
    Method(
        "slerp", "Ricci, Biondi, Pernici 2026, 2609.39836", run, Needs(old_model=True),
        "serving `slerp`", beside="procrustes", remark="Both models embed every query.",
    ),
)  # fmt: skip
