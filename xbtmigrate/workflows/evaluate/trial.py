"""Queries and a gallery in both models' spaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from xbtmigrate.evaluation.queries import Questions
from xbtmigrate.evaluation.retrieval import Relevance, Rows, SearchSpace
from xbtmigrate.projectors import Projector
from xbtmigrate.scoring.calibration import Bank, Scored, measure_hubness
from xbtmigrate.scoring.fusion import PerPoint
from xbtmigrate.types import Channel, Distance, PointId, Scores, Vectors


@dataclass(frozen=True, slots=True)
class Trial:
    """Queries and a gallery in both models' spaces.

    Attributes:
        questions: The queries.
        ids: Ids of the gallery rows.
        queries_old: Queries in the old model, (n_q, d_old).
        queries_new: Queries in the new model, (n_q, d_new).
        old: Stored vectors, (n, d_old).
        new: True new vectors, (n, d_new).
        old_distance: Distance of the old space.
        new_distance: Distance of the new space.
        side: Side vectors of the gallery, (n, d_side); None where none is configured.
        texts: Texts of the gallery rows, None where missing; empty where they were not read.
        has_old_model: Whether the old model embedded the queries. If it is gone, `queries_old` are
            zero until something stands for them, and every figure of keep is an estimate.
    """

    questions: Questions
    ids: Sequence[PointId]
    queries_old: Vectors
    queries_new: Vectors
    old: Vectors
    new: Vectors
    old_distance: Distance
    new_distance: Distance
    side: Vectors | None = None
    texts: Sequence[str | None] = ()
    has_old_model: bool = True

    @property
    def relevance(self) -> Relevance:
        """Relevant gallery rows of each query; relevant points outside the gallery are ignored."""
        # No system can find a point outside the sampled gallery, so such points do not count.
        row_of = {point: row for row, point in enumerate(self.ids)}
        return Relevance.from_rows(
            [[row_of[p] for p in points if p in row_of] for points in self.questions.relevant]
        )

    @property
    def old_space(self) -> SearchSpace:
        """Old queries and stored vectors."""
        return SearchSpace(self.queries_old, self.old, self.old_distance)

    @property
    def full_space(self) -> SearchSpace:
        """New queries and true new vectors."""
        return SearchSpace(self.queries_new, self.new, self.new_distance)

    @property
    def estimates_keep(self) -> bool:
        """Whether judged queries meet an old model that is gone, so keep can only be estimated."""
        return not (self.has_old_model or self.questions.provisional)

    @property
    def repeats_texts(self) -> bool:
        """Whether most queries are the very text of their answer, such as a picture's caption.

        Any search by words finds these, whatever users would find.
        """
        text_of = dict(zip(self.ids, self.texts, strict=False))
        same = [
            any(text_of.get(point) == query for point in points)
            for query, points in zip(self.questions.texts, self.questions.relevant, strict=True)
        ]
        return sum(same) * 2 > len(same)

    def with_questions(self, questions: Questions) -> Trial:
        """Return the same vectors with other questions."""
        return replace(self, questions=questions)

    def keep_queries(self, rows: Sequence[int]) -> Trial:
        """Return the same gallery with the queries of these rows only."""
        chosen = np.asarray(rows, np.intp)
        return replace(
            self,
            questions=self.questions.select(chosen),
            queries_old=self.queries_old[chosen],
            queries_new=self.queries_new[chosen],
        )

    def channel_vectors(self, forward: Projector) -> ChannelVectors:
        """The gallery's vectors in every channel."""
        projected = forward.apply(self.old, self.side)
        return ChannelVectors(self.old, projected, self.new, self.old_distance, self.new_distance)


@dataclass(frozen=True, slots=True)
class ChannelVectors:
    """Vectors of the same n points by every channel, with the distances of both spaces."""

    old: Vectors
    projected: Vectors
    new: Vectors
    old_distance: Distance
    new_distance: Distance

    def space(self, channel: Channel, queries: Vectors) -> SearchSpace:
        """Pair queries with the vectors they meet in a channel."""
        if channel in (Channel.OLD, Channel.BRIDGE):
            return SearchSpace(queries, self.old, self.old_distance)
        gallery = self.projected if channel is Channel.FORWARD else self.new
        return SearchSpace(queries, gallery, self.new_distance)

    def rows(self, rows: Rows) -> ChannelVectors:
        """Keep these points."""
        return replace(self, old=self.old[rows], projected=self.projected[rows], new=self.new[rows])

    def blocks(
        self, old: Vectors, new: Vectors, bridged: Vectors | None = None
    ) -> dict[Channel, Scores]:
        """Score queries against all points in every channel, each (m, n).

        Args:
            old: The queries in the old model, (m, d_old).
            new: The queries in the new model, (m, d_new).
            bridged: Those projected into the old space, (m, d_old); None leaves the channel out.
        """
        asked = {Channel.OLD: old, Channel.FORWARD: new, Channel.NEW: new}
        if bridged is not None:
            asked[Channel.BRIDGE] = bridged
        return {channel: self.space(channel, each).score() for channel, each in asked.items()}

    def hubness(self, bank: Bank, ids: Sequence[str]) -> dict[Channel, PerPoint]:
        """Hubness of the points in each channel."""
        channels = (Channel.OLD, Channel.FORWARD, Channel.NEW)
        return measure_hubness(bank, ids, self.scored(bank, channels))

    def scored(self, bank: Bank, channels: Sequence[Channel]) -> dict[Channel, Scored]:
        """For each channel, a function from a slice of points to their scores with a bank."""
        return {channel: self._scored(channel, bank) for channel in channels}

    def _scored(self, channel: Channel, bank: Bank) -> Scored:
        met = self.space(channel, bank.of(channel))
        # Points take the queries' place, since hubness is computed for blocks of points.
        turned = SearchSpace(met.gallery, met.query, met.distance)
        return turned.score
