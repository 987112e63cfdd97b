"""Workflows: from vectors of both models to the cells and curves of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from xbtmigrate.evaluation.curves import Curve, backfilling_curves
from xbtmigrate.evaluation.galleries import Merge, Serving, Single
from xbtmigrate.evaluation.retrieval import QueryScores, Relevance, Space, evaluate
from xbtmigrate.ordering import RandomOrdering, UncertaintyOrdering, rank
from xbtmigrate.projectors import Projector
from xbtmigrate.serving.arrangement import Arrangement, Bank, Scored, hubness_by_channel
from xbtmigrate.serving.blend import SlerpServing, slerp
from xbtmigrate.serving.fusion import CalibratedServing, PerPoint
from xbtmigrate.types import Channel, Distance, PointId, Vectors
from xbtmigrate.workflows.questions import Questions

ORACLE = "oracle"
FUSIONS = ("slerp", "calibrated")


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
    def old_space(self) -> Space:
        """Old queries and stored vectors."""
        return Space(self.queries_old, self.old, self.old_distance)

    @property
    def full_space(self) -> Space:
        """New queries and true new vectors."""
        return Space(self.queries_new, self.new, self.new_distance)

    def asking(self, questions: Questions) -> Trial:
        """Return the same vectors with other questions."""
        return replace(self, questions=questions)

    def sides(self, forward: Projector) -> Sides:
        """The gallery's vectors in every channel."""
        return Sides(
            self.old, forward.apply(self.old), self.new, self.old_distance, self.new_distance
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """Figures of every system.

    Attributes:
        cells: Scores by name; keep first, full last.
        curves: The mixed gallery, for each order and serving.
    """

    cells: dict[str, QueryScores]
    curves: list[Curve]

    @property
    def deployable(self) -> list[Curve]:
        """Curves whose order can be known before anything is encoded."""
        return [curve for curve in self.curves if curve.ordering != ORACLE]


@dataclass(frozen=True, slots=True)
class Maps:
    """What was fitted: projectors of both directions, and how a mixed gallery is searched.

    Attributes:
        bridge: Projector of queries.
        forward: Projector of stored vectors.
        arrangement: Calibrated fusion.
        tuned: Queries of the trial in the new model with the additions trained for the bridge.
    """

    bridge: Projector | None = None
    forward: Projector | None = None
    arrangement: Arrangement | None = None
    tuned: Vectors | None = None


def judge(trial: Trial, maps: Maps, seed: int) -> Judged:
    """Judge every cell and draw every curve.

    Args:
        trial: Queries and gallery in both spaces.
        maps: What was fitted.
        seed: Seed of the random order.
    """
    spaces = {Channel.OLD: trial.old_space, Channel.NEW: trial.full_space}
    relevance = trial.relevance
    servings: list[Serving] = [Merge()]
    rows = {"keep": evaluate(spaces[Channel.OLD], relevance)}
    orders = {"random": RandomOrdering(seed=seed).score(trial.ids, trial.old)}
    if maps.bridge is not None:
        bridged = maps.bridge.apply(trial.queries_new)
        space = Space(bridged, trial.old, trial.old_distance)
        rows[f"bridge:{maps.bridge.kind}"] = evaluate(space, relevance)
        if maps.tuned is not None:
            tuned = Space(maps.bridge.apply(maps.tuned), trial.old, trial.old_distance)
            rows[f"bridge:{maps.bridge.kind}+lora"] = evaluate(tuned, relevance)
        if maps.arrangement is not None:
            blended = slerp(trial.queries_old, bridged, maps.arrangement.blend)
            spaces[Channel.BLEND] = Space(blended, trial.old, trial.old_distance)
            servings.append(SlerpServing())
    if maps.forward is not None:
        sides = trial.sides(maps.forward)
        spaces[Channel.FORWARD] = sides.space(Channel.FORWARD, trial.queries_new)
        rows[f"forward:{maps.forward.kind}"] = evaluate(spaces[Channel.FORWARD], relevance)
        servings.append(Single())
        orders |= _informed_orders(sides, maps.forward, trial.ids)
        if maps.arrangement is not None:
            hubs = sides.hubness(maps.arrangement.bank, trial.ids)
            servings.append(CalibratedServing(maps.arrangement.fusion, hubs))
    ranked = {name: rank(trial.ids, scores) for name, scores in orders.items()}
    curves = backfilling_curves(spaces, relevance, orders=ranked, servings=servings)
    for curve in curves:
        if curve.ordering == "random" and curve.serving in FUSIONS:
            rows[f"fusion:{curve.serving}"] = curve.points[0]
    rows["full"] = evaluate(spaces[Channel.NEW], relevance)
    return Judged(rows, curves)


def _informed_orders(
    sides: Sides, forward: Projector, ids: Sequence[PointId]
) -> dict[str, npt.NDArray[np.float32]]:
    """Scores of the orders that need a projector; the oracle's error is only a bound."""
    error = np.linalg.norm(sides.new - sides.projected, axis=1).astype(np.float32)
    if not forward.has_uncertainty:
        return {ORACLE: error}
    uncertain = UncertaintyOrdering(projector=forward).score(ids, sides.old)
    return {"uncertainty": uncertain, ORACLE: error}


@dataclass(frozen=True, slots=True)
class Sides:
    """Vectors of the same n points by every channel, with the distances of both spaces."""

    old: Vectors
    projected: Vectors
    new: Vectors
    old_distance: Distance
    new_distance: Distance

    def space(self, channel: Channel, queries: Vectors) -> Space:
        """Pair queries with the vectors they meet in a channel."""
        if channel is Channel.OLD:
            return Space(queries, self.old, self.old_distance)
        gallery = self.projected if channel is Channel.FORWARD else self.new
        return Space(queries, gallery, self.new_distance)

    def hubness(self, bank: Bank, ids: Sequence[str]) -> dict[Channel, PerPoint]:
        """Hubness of the points in each channel."""
        channels = (Channel.OLD, Channel.FORWARD, Channel.NEW)
        return hubness_by_channel(bank, ids, self.scored(bank, channels))

    def scored(self, bank: Bank, channels: Sequence[Channel]) -> dict[Channel, Scored]:
        """For each channel, a function from a slice of points to their scores with a bank."""
        return {channel: self._scored(channel, bank) for channel in channels}

    def _scored(self, channel: Channel, bank: Bank) -> Scored:
        met = self.space(channel, bank.of(channel))
        turned = Space(met.gallery, met.query, met.distance)
        return turned.scores
