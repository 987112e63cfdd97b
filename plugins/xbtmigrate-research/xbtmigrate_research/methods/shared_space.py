"""Lambda-orthogonality: both models meet in a space that is nearly the new one.

Ricci et al., "lambda-Orthogonality Regularization for Compatible Representation Learning", 2025,
arXiv 2509.16664. B maps new vectors towards the old ones, kept near a rotation by
sigmoid(a (|BB' - I| - lambda)) |BB' - I|, lambda 12; F maps stored vectors to B(new). Then stored
vectors F(o) and vectors that are embedded again, B(n), share one space, and one query B(q) searches
both at any stage.

Changed: F is ridge to the new space, followed by B; the class means that the paper orders the
backfill by are missing here, so the order is random. For B see `lambda_orthogonal` in this package.
"""

from __future__ import annotations

from xbtmigrate.evaluation.mixed_gallery import Single
from xbtmigrate.evaluation.retrieval import SearchSpace
from xbtmigrate.types import Channel, Direction
from xbtmigrate_research.lambda_orthogonal import near_orthogonal
from xbtmigrate_research.method import Backfill, Method, Needs, Outcome
from xbtmigrate_research.trial import Trial

LAMBDA = 12.0


def run(trial: Trial) -> Outcome:
    """Fit F and B, and search what both made."""
    corpus, rows = trial.corpus, trial.rows
    projected = trial.fit(Direction.FORWARD, ["ridge"]).projector.apply(corpus.old)
    weight = near_orthogonal(corpus.new[rows], corpus.old[rows], LAMBDA, seed=trial.seed)
    queries = corpus.asked_new @ weight
    stored, new = (SearchSpace(queries, each @ weight) for each in (projected, corpus.new))
    backfill = Backfill({Channel.FORWARD: stored, Channel.NEW: new}, Single())
    return Outcome(stored, new, backfill)


METHODS = (
    Method(
        "shared_space", "Ricci et al. 2025, 2509.16664", run, Needs(),
        "measured only: serving `shared-space-12` of the research plugin", beside="forward_ridge",
    ),
)  # fmt: skip
