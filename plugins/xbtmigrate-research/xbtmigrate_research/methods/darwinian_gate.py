"""Darwinian gate: leave points in the old space whose projection would harm.

Zhang et al., "Darwinian Model Upgrades: Model Evolving with Selective Compatibility", AAAI 2023,
arXiv 2210.06954. A gate decides for each point, by the quality of its old vector, how far it is
moved from the old space to the new one.

Changed: the gate is a threshold on the uncertainty of the point's projection by the Gaussian
process, chosen on the queries of even number; a point that is left is searched by the old query
(the serving `gated` of this package). Both spaces lie side by side in one, so that the score is the
one of the space in which the point is.
"""

from __future__ import annotations

import numpy as np

from xbtmigrate.evaluation.mixed_gallery import Single
from xbtmigrate.evaluation.retrieval import SearchSpace
from xbtmigrate.scoring.fusion import Mask
from xbtmigrate.types import Channel, Direction
from xbtmigrate_research.gated import choose_gate
from xbtmigrate_research.method import Backfill, Method, Needs, Outcome
from xbtmigrate_research.trial import TUNING, Trial


def run(trial: Trial) -> Outcome:
    """Choose the gate and search each point where it is."""
    corpus = trial.corpus
    projector = trial.fit(Direction.FORWARD, ["gaussian_process"]).projector
    projected, uncertainty = projector.apply(corpus.old), projector.uncertainty(corpus.old)
    queries = np.concatenate([corpus.asked_old, corpus.asked_new], axis=1)
    no_old, no_new = np.zeros_like(corpus.old), np.zeros_like(corpus.new)

    def gated(left: Mask) -> SearchSpace:
        here = left[:, None]
        parts = np.where(here, corpus.old, no_old), np.where(here, no_new, projected)
        return SearchSpace(queries, np.concatenate(parts, axis=1))

    gate = choose_gate(
        uncertainty, lambda left: trial.judge(gated(left), TUNING).means["recall@10"]
    )
    left = uncertainty > gate
    space = gated(left)
    new = SearchSpace(queries, np.concatenate([no_old, corpus.new], axis=1))
    backfill = Backfill({Channel.FORWARD: space, Channel.NEW: new}, Single())
    return Outcome(space, backfill=backfill, note=f"{left.mean():.0%} left")


METHODS = (
    Method(
        "darwinian_gate", "Zhang et al., AAAI 2023, 2210.06954", run, Needs(old_model=True),
        "measured only: serving `gated` of the research plugin", beside="forward_kernel",
    ),
)  # fmt: skip
