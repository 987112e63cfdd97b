"""Interleave the results of both halves of the gallery by their ranks: the usual baseline."""

from __future__ import annotations

import numpy as np

from xbtmigrate.evaluation.mixed_gallery import Blocks, Mask
from xbtmigrate.evaluation.retrieval import DEPTH, rank_top_k
from xbtmigrate.evaluation.servings import ServingSpec
from xbtmigrate.types import Channel, Scores


class ReciprocalRanks:
    """Reciprocal rank fusion of the two halves (Cormack et al., SIGIR 2009): a baseline.

    The halves share no point, so it interleaves them one by one whatever their scores say.
    """

    name = "rrf"
    channels = frozenset({Channel.OLD, Channel.NEW})
    by_state = False  # a point's rank depends on which others are in its half

    def score(self, blocks: Blocks, encoded: Mask) -> Scores:
        """Score the best rows of each half by 1 / (60 + rank), all others by 0."""
        found = np.zeros_like(blocks[Channel.OLD])
        for channel, half in ((Channel.OLD, ~encoded), (Channel.NEW, encoded)):
            columns = np.flatnonzero(half)
            if len(columns):
                best = columns[rank_top_k(blocks[channel][:, columns], DEPTH)]
                ranks = np.arange(1, best.shape[1] + 1, dtype=np.float32)
                # 60 is the constant of the paper (Cormack et al. 2009).
                np.put_along_axis(found, best, 1 / (60 + ranks)[None, :], axis=1)
        return found


RRF = ServingSpec(
    "rrf",
    measure=lambda _: ReciprocalRanks(),
    only_measured="it is a baseline to compare with",
)
