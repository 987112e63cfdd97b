"""Calibrate the fusion of a mixed gallery on queries whose answers are known.

Half of the queries are searched with; the other half is the bank that the hubness of points is
measured against. All of their answers have known true new vectors, and no map used here was fitted
on the point that it projects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from xbtmigrate.errors import EncoderError
from xbtmigrate.evaluation.answer_ranks import evaluate
from xbtmigrate.evaluation.mixed_gallery import Serving
from xbtmigrate.evaluation.queries import Questions
from xbtmigrate.evaluation.retrieval import DEPTH, judge, rank_top_k
from xbtmigrate.evaluation.servings import Tuning, find_serving, list_measured
from xbtmigrate.ordering.benefit import BenefitModel, FeatureInputs, Reference
from xbtmigrate.projectors import Projector
from xbtmigrate.scoring.calibration import Calibration
from xbtmigrate.scoring.conditional_logit import MIN_QUERIES, CalibrationSet, calibrate
from xbtmigrate.scoring.fusion import PerPoint
from xbtmigrate.scoring.slerp import choose_alpha
from xbtmigrate.training.fit import FitReport
from xbtmigrate.training.learn_benefit import fit_estimates, measure_benefit
from xbtmigrate.types import Channel, Modality, Scores, Vectors
from xbtmigrate.workflows.encode_points import encode_questions
from xbtmigrate.workflows.evaluate.embed_queries import build_trial
from xbtmigrate.workflows.evaluate.query_sources import make_questions
from xbtmigrate.workflows.evaluate.trial import ChannelVectors, Trial
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.points import Points
from xbtmigrate.workflows.store import Store
from xbtmigrate.workflows.train.centre import MAX_CENTRING, project_unseen
from xbtmigrate.workflows.train.known_queries import (
    MAX_POINTS_AS_QUERIES,
    POINTS,
    KnownQueries,
    ask_with_points,
    know_questions,
)
from xbtmigrate.workflows.train.make_pairs import EmbeddedRows

MAX_QUERIES = 6000
MAX_POINTS = 6000
MAX_REFERENCE = 2000
MAX_TUNING = 300
"""Most queries on which servings with a measured parameter are tuned."""


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """Everything learned from queries with known answers.

    Attributes:
        calibration: How a mixed gallery is searched.
        benefit: What re-encoding a point is worth; None without an uncertainty of the projection,
            where the projection needs more than the stored vector, or where points were queries.
        trial: Some of the queries among the known points, as centring is fitted on; None where
            points were queries.
        basis: What served as queries and relevance, in words.
    """

    calibration: Calibration
    benefit: BenefitModel | None
    trial: Trial | None
    basis: str


def calibrate_on_points(
    store: Store,
    models: Models,
    points: Points,
    new: EmbeddedRows,
    fits: tuple[FitReport, FitReport],
    *,
    learn_benefit: bool,
) -> CalibrationResult | None:
    """Calibrate on the first kind of queries that can be made and embedded.

    Args:
        store: What the migration has in Qdrant.
        models: Both models.
        points: Sampled points.
        new: Their true new vectors.
        fits: Fits of the bridge and of the forward projector.
        learn_benefit: Learn what to re-encode first as well, where the projector allows it.

    Returns:
        What was learned. Where both models can embed too few queries, it is learned from the
        points themselves if they are texts and many enough; else None.
    """
    # The sample is in random order, so its first points are a fair part of it.
    rows = np.flatnonzero(new.valid)[:MAX_POINTS]
    points, true = points.rows(rows), new.vectors[rows]
    known = _Known(store, models, points, true, fits)
    made = make_questions(store, models, points)
    found = (known.calibrate(questions, learn_benefit=learn_benefit) for questions in made)
    first = next((each for each in found if each is not None), None)
    return known.calibrate_on_neighbours() if first is None else first


@dataclass(frozen=True, slots=True)
class _Known:
    """Points whose true new vectors are known, and the fits that are calibrated for them.

    Attributes:
        store: What the migration has in Qdrant.
        models: Both models.
        points: The points, n.
        true: Their true new vectors, (n, d_new).
        fits: Fits of the bridge and of the forward projector.
    """

    store: Store
    models: Models
    points: Points
    true: Vectors
    fits: tuple[FitReport, FitReport]

    def calibrate(self, questions: Questions, *, learn_benefit: bool) -> CalibrationResult | None:
        """Calibrate on queries that ask for one point each; None for too few of them."""
        seed, points = self.store.config.plan.seed, self.points
        questions = questions.keep_answerable(set(points.ids)).sample(MAX_QUERIES, seed)
        embedded = _embedded(self.models, questions)
        if embedded is None:
            return None
        bridge, forward = (each.projector for each in self.fits)
        everything = know_questions(points, *embedded, bridge)
        sides = self._channels()
        calibration, hubness = self._calibrate(sides, everything)
        benefit = None
        if learn_benefit and forward.has_uncertainty and not forward.d_side:
            mixed = _Mixed(sides, points, calibration, hubness, forward)
            # Ranks grow with the gallery, and the benefit is meant for the whole collection.
            benefit = _benefit(mixed, everything, self.store.facts.points / len(points), seed)
        trial = _trial(self.store, points, self.true, embedded[0], everything)
        return CalibrationResult(calibration, benefit, trial, questions.basis)

    def calibrate_on_neighbours(self) -> CalibrationResult | None:
        """Calibrate on points that ask for their nearest point; None among images or few points.

        The new model's neighbours count as right, which favours its scores. Measured, that does
        no harm (docs/benchmarks.md).
        """
        count = min(MAX_POINTS_AS_QUERIES, len(self.points) // 4)
        # Half of them become the bank.
        if self.models.stored is not Modality.TEXT or count < 2 * MIN_QUERIES:
            return None
        # Queries leave the gallery, or each point would find itself first.
        asking, rest = np.split(np.arange(len(self.points)), [count])
        searched = replace(self, points=self.points.rows(rest), true=self.true[rest])
        asked, new, (bridge, _) = self.points.rows(asking), self.true[asking], self.fits
        bridged = bridge.projector.apply_to_queries(new, asked.texts)
        if bridge.unseen is not None:
            bridged = bridge.unseen.of(asked.ids, bridged)
        distance = self.store.new_distance
        queries = ask_with_points(asked, new, bridged, searched.true, distance)
        calibration, _ = searched._calibrate(searched._channels(), queries)
        return CalibrationResult(calibration, None, None, POINTS)

    def _channels(self) -> ChannelVectors:
        points = self.points
        forward, stored = self.fits[1], self.models.stored
        projected = project_unseen(forward, points.ids, points.old, points.side, stored)
        distances = self.store.facts.distance, self.store.new_distance
        return ChannelVectors(points.old, projected, self.true, *distances)

    def _calibrate(
        self, sides: ChannelVectors, queries: KnownQueries
    ) -> tuple[Calibration, Mapping[Channel, PerPoint]]:
        """Return the calibration, and the hubness of the points that it was fitted with."""
        bridge, forward = (each.projector for each in self.fits)
        # Disjoint halves: hubness measured with the same queries would leak their answers.
        asked, bank = queries.rest(0), queries.rest(1).bank()
        hubness = sides.hubness(bank, self.points.ids)
        known = _calibration_set(sides, asked, hubness)
        seed, without = self.store.config.plan.seed, (Channel.BRIDGE, Channel.FORWARD)
        calibration = Calibration(
            calibrate(known, seed=seed),
            calibrate(
                replace(known, hubness={}),
                waiting=without,
                encoded=(Channel.NEW, Channel.BRIDGE),
                seed=seed,
            ),
            _blend(sides, asked),
            bank,
            (bridge.digest, forward.digest),
            _tune(sides, asked, self.points, forward),
        )
        return calibration, hubness


def _trial(
    store: Store, points: Points, true: Vectors, questions: Questions, asked: KnownQueries
) -> Trial:
    """Take the first queries as a trial among the known points."""
    some = slice(0, MAX_CENTRING)
    first = questions.select(range(len(questions))[some])
    return build_trial(store, points, true, (first, asked.old[some], asked.new[some]))


def _calibration_set(
    sides: ChannelVectors, asked: KnownQueries, hubness: Mapping[Channel, PerPoint]
) -> CalibrationSet:
    return CalibrationSet(
        blocks=sides.blocks(asked.old, asked.new, asked.bridged),
        query=np.arange(len(asked.rows)),
        row=asked.rows,
        hubness=hubness,
    )


@dataclass(frozen=True, slots=True)
class _Mixed:
    """The known points in both states, and how they are searched."""

    sides: ChannelVectors
    points: Points
    calibration: Calibration
    hubness: Mapping[Channel, PerPoint]
    forward: Projector

    def states(self, asked: KnownQueries, part: slice) -> tuple[Scores, Scores]:
        """Fused scores of some queries with all points waiting, and with all re-encoded."""
        blocks = self.sides.blocks(asked.old[part], asked.new[part])
        count = len(self.points)
        # `state` says for each point whether it is re-encoded.
        waiting, encoded = (
            self.calibration.fusion.score(blocks, self.hubness, np.full(count, state))
            for state in (False, True)
        )
        return waiting, encoded


def _benefit(mixed: _Mixed, everything: KnownQueries, scale: float, seed: int) -> BenefitModel:
    """Measure what re-encoding each known point changes, and learn it from its features."""
    points, sides = mixed.points, mixed.sides
    bank = everything.rest(1)
    states = mixed.states(bank, slice(None))
    # Picks the score of the answer from each query's row.
    own = np.arange(len(bank.rows)), bank.rows
    some = slice(0, MAX_REFERENCE)
    surroundings = FeatureInputs(
        mixed.calibration,
        np.stack([state[own] for state in states], axis=1),
        Reference(points.ids[some], points.old[some], sides.projected[some]),
        sides.old_distance,
        sides.new_distance,
    )
    features = surroundings.features(
        points.ids, points.old, sides.projected, mixed.forward.uncertainty(points.old)
    )
    measured = measure_benefit(
        lambda part: mixed.states(everything, part), everything.rows, scale=scale, seed=seed
    )
    combined, trees = fit_estimates(features, everything.rows, measured, seed=seed)
    return BenefitModel(surroundings, combined, trees, mixed.forward.digest)


def _blend(sides: ChannelVectors, asked: KnownQueries) -> float:
    """Choose how far the old query is rotated towards the bridged one."""
    relevance = asked.relevance
    chosen, _ = choose_alpha(
        asked.old,
        asked.bridged,
        # Blended queries search the stored old vectors, so the blend needs no backfill.
        lambda queries: evaluate(sides.space(Channel.OLD, queries), relevance).means["mrr@10"],
    )
    return chosen


def _tune(
    sides: ChannelVectors, asked: KnownQueries, points: Points, forward: Projector
) -> dict[str, float]:
    """Choose the parameter of each serving that is tuned by measuring, with nothing re-encoded."""
    specs = [find_serving(name) for name in list_measured()]
    tuned = [(spec.name, spec.tune) for spec in specs if spec.tune is not None]
    if not tuned:
        return {}
    asked = asked.part(slice(0, MAX_TUNING))
    relevance = asked.relevance
    blocks, none = sides.blocks(asked.old, asked.new), np.zeros(len(points), np.bool_)

    def quality(serving: Serving) -> float:
        return judge(rank_top_k(serving.score(blocks, none), DEPTH), relevance).means["mrr@10"]

    # If the projector takes a side vector, its error is not predicted from the old one alone.
    predicts = forward.has_uncertainty and not forward.d_side
    tuning = Tuning(forward.uncertainty(points.old) if predicts else None, quality)
    found = {name: tune(tuning) for name, tune in tuned}
    return {name: number for name, number in found.items() if number is not None}


def _embedded(models: Models, questions: Questions) -> tuple[Questions, Vectors, Vectors] | None:
    """Return queries that both models can embed, with their vectors; None if they are too few."""
    try:
        asked, old, new = encode_questions(models, questions)
    except EncoderError:
        return None
    # Twice, since half of them become the bank.
    return None if old is None or len(asked) < 2 * MIN_QUERIES else (asked, old, new)
