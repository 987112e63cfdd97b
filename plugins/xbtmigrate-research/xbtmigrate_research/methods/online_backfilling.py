"""Online backfilling: two spaces at once, merged by distance.

Seo et al., "Online Backfilling with No Regret for Large-Scale Image Retrieval", WACV 2025, arXiv
2301.03767. Points embedded again are searched by the new query n, the others by the old query o;
the lists are merged by distance (`merge`). The reverse query transform psi maps n to o's space, so
that one encoding serves both (`merge_reverse`). The metric-compatible loss makes the two distances
comparable: with q a query's new vector and g the stored vector of its point,
-log exp(psi(q).g / t) / (sum_i exp(psi(q).g_i / t) + sum_j exp(q.n_j / t)), negatives from both
spaces (`merge_compatible`, the three together).

Changed: psi is the tool's kind `reverse_query`, a residual MLP on the ridge solution, and the loss
has a distance beside it; it is trained as the tool trains it. `merge_reverse` has the same network
without the pooled negatives.
"""

from __future__ import annotations

from functools import partial

from xbtmigrate.evaluation.mixed_gallery import Merge
from xbtmigrate.evaluation.retrieval import SearchSpace
from xbtmigrate.types import Channel, Direction
from xbtmigrate_research.method import Backfill, Claim, Method, Needs, Outcome, Share
from xbtmigrate_research.trial import Trial

SOURCE = "Seo et al., WACV 2025, 2301.03767"
KINDS = {"merge_reverse": "mlp", "merge_compatible": "reverse_query"}


def run(trial: Trial, name: str) -> Outcome:
    """Search the stored vectors by the old query or by psi, and the new ones by the new query."""
    corpus = trial.corpus
    queries = corpus.asked_old
    if name in KINDS:
        queries = trial.fit(Direction.BRIDGE, [KINDS[name]]).projector.apply(corpus.asked_new)
    old = SearchSpace(queries, corpus.old)
    new = SearchSpace(corpus.asked_new, corpus.new)
    return Outcome(old, backfill=Backfill({Channel.OLD: old, Channel.NEW: new}, Merge()))


METHODS = (
    Method(
        "merge", SOURCE, partial(run, name="merge"), Needs(old_model=True, pairs=False),
        "serving `merge`",
        remark="Raw distances of two models rarely compare: see its backfill, below.",
        claim=Claim(Share.BACKFILL, "36 to 45 % (image benchmarks)"),
    ),
    Method(
        "merge_reverse", SOURCE, partial(run, name="merge_reverse"), Needs(),
        "bridge, kind `mlp`", beside="ridge",
    ),
    Method(
        "merge_compatible", SOURCE, partial(run, name="merge_compatible"), Needs(),
        "bridge, kind `reverse_query`", beside="merge_reverse",
    ),
)  # fmt: skip
