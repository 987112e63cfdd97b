"""Workflows: from vectors of both models to the cells and curves of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from xbtmigrate.evaluation.retrieval import QueryScores, Relevance, Space, evaluate
from xbtmigrate.projectors import Projector
from xbtmigrate.types import Channel, Distance, PointId, Vectors
from xbtmigrate.workflows.questions import Questions


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
    """

    questions: Questions
    ids: Sequence[PointId]
    queries_old: Vectors
    queries_new: Vectors
    old: Vectors
    new: Vectors
    old_distance: Distance
    new_distance: Distance

    @property
    def relevance(self) -> Relevance:
        """Relevant gallery rows of each query; relevant points outside the gallery are ignored."""
        row_of = {point: row for row, point in enumerate(self.ids)}
        return Relevance.from_rows(
            [[row_of[p] for p in points if p in row_of] for points in self.questions.relevant]
        )

    @property
    def full_space(self) -> Space:
        """New queries and true new vectors."""
        return Space(self.queries_new, self.new, self.new_distance)

    def asking(self, questions: Questions) -> Trial:
        """Return the same vectors with other questions."""
        return replace(self, questions=questions)

    def spaces(self, bridge: Projector | None, forward: Projector | None) -> dict[Channel, Space]:
        """Every way a query can meet a stored point, with the projectors at hand."""
        spaces = {
            Channel.OLD: Space(self.queries_old, self.old, self.old_distance),
            Channel.NEW: self.full_space,
        }
        if bridge is not None:
            mapped = bridge.apply(self.queries_new)
            spaces[Channel.BRIDGE] = Space(mapped, self.old, self.old_distance)
        if forward is not None:
            mapped = forward.apply(self.old)
            spaces[Channel.FORWARD] = Space(self.queries_new, mapped, self.new_distance)
        return spaces


def cells(
    spaces: Mapping[Channel, Space],
    relevance: Relevance,
    bridge: Projector | None,
    forward: Projector | None,
) -> dict[str, QueryScores]:
    """Judge every cell; keep comes first, full last."""
    names = {Channel.OLD: "keep"}
    if bridge is not None:
        names[Channel.BRIDGE] = f"bridge:{bridge.kind}"
    if forward is not None:
        names[Channel.FORWARD] = f"forward:{forward.kind}"
    names[Channel.NEW] = "full"
    return {name: evaluate(spaces[channel], relevance) for channel, name in names.items()}


def oracle_scores(trial: Trial, forward: Projector) -> np.ndarray:
    """True error of the projected vectors, (n,): the order that only an evaluation can know."""
    error: np.ndarray = np.linalg.norm(trial.new - forward.apply(trial.old), axis=1)
    return error
