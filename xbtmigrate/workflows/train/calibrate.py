"""Calibrate the fusion of a mixed gallery on queries whose answers are known.

Half of the queries are searched with; the other half is the bank that the hubness of points is
measured against. All of their answers have known true new vectors, and no map used here was fitted
on the point that it projects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbtmigrate.errors import EncoderError
from xbtmigrate.evaluation.mixed_gallery import Serving
from xbtmigrate.evaluation.queries import Questions
from xbtmigrate.evaluation.retrieval import DEPTH, Relevance, evaluate, judge, rank_top_k
from xbtmigrate.evaluation.servings import Tuning, find_serving, list_measured
from xbtmigrate.ordering.benefit import BenefitModel, FeatureInputs, Reference
from xbtmigrate.projectors import Projector
from xbtmigrate.scoring.calibration import Bank, Calibration
from xbtmigrate.scoring.conditional_logit import MIN_QUERIES, CalibrationSet, calibrate
from xbtmigrate.scoring.fusion import PerPoint
from xbtmigrate.scoring.slerp import choose_alpha
from xbtmigrate.training.fit import FitReport
from xbtmigrate.training.learn_benefit import fit_estimates, measure_benefit
from xbtmigrate.types import Channel, Scores, Vectors
from xbtmigrate.workflows.encode_points import encode_questions
from xbtmigrate.workflows.evaluate.embed_queries import build_trial
from xbtmigrate.workflows.evaluate.query_sources import make_questions
from xbtmigrate.workflows.evaluate.trial import ChannelVectors, Trial
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.points import Points
from xbtmigrate.workflows.store import Store
from xbtmigrate.workflows.train.centre import MAX_CENTRING, project_unseen
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
            or where the projection needs more than the stored vector.
        trial: Some of the queries among the known points, as centring is fitted on.
        basis: What served as queries and relevance, in words.
    """

    calibration: Calibration
    benefit: BenefitModel | None
    trial: Trial
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
    """Calibrate on the first kind of queries that can be made and embedded; None without any.

    None as well where the old model is gone: every calibrated serving asks in the old space.
    """
    made = make_questions(store, models, points)
    found = (
        fit_calibration(
            *(store, models, points, new, fits), questions=questions, learn_benefit=learn_benefit
        )
        for questions in made
    )
    return next((each for each in found if each is not None), None)


def fit_calibration(
    store: Store,
    models: Models,
    points: Points,
    new: EmbeddedRows,
    fits: tuple[FitReport, FitReport],
    *,
    questions: Questions,
    learn_benefit: bool = True,
) -> CalibrationResult | None:
    """Calibrate, and learn what to re-encode first, on points whose true new vectors are known.

    Args:
        store: What the migration has in Qdrant.
        models: Both models.
        points: Sampled points.
        new: Their true new vectors.
        fits: Fits of the bridge and of the forward projector.
        questions: Queries, each asking for one of the points.
        learn_benefit: Learn what to re-encode first as well, where the projector allows it.

    Returns:
        What was learned, or None where both models can embed too few queries.
    """
    seed = store.config.plan.seed
    # The sample is in random order, so its first points are a fair part of it.
    rows = np.flatnonzero(new.valid)[:MAX_POINTS]
    points, true = points.rows(rows), new.vectors[rows]
    questions = questions.keep_answerable(set(points.ids)).sample(MAX_QUERIES, seed)
    embedded = _embedded(models, questions)
    if embedded is None:
        return None
    bridge, forward = fits
    sides = _channels(store, models, points, true, forward)
    everything = _embed_known_queries(points, *embedded, bridge.projector)
    # Disjoint halves: hubness measured with the same queries would leak their answers.
    asked, bank = everything.rest(0), everything.rest(1).bank(points)
    hubness = sides.hubness(bank, points.ids)
    calibration = Calibration(
        calibrate(_calibration_set(sides, asked, hubness), seed=seed),
        _blend(sides, asked),
        bank,
        (bridge.projector.digest, forward.projector.digest),
        _tune(sides, asked, points, forward.projector),
    )
    benefit = None
    if learn_benefit and forward.projector.has_uncertainty and not forward.projector.d_side:
        mixed = _Mixed(sides, points, calibration, hubness, forward.projector)
        # Ranks grow with the gallery, and the benefit is meant for the whole collection.
        benefit = _benefit(mixed, everything, store.facts.points / len(points), seed)
    trial = _trial(store, points, true, embedded[0], everything)
    return CalibrationResult(calibration, benefit, trial, questions.basis)


@dataclass(frozen=True, slots=True)
class _KnownQueries:
    """Queries in both models, and the row that answers each."""

    rows: npt.NDArray[np.intp]
    old: Vectors
    new: Vectors
    bridged: Vectors

    def rest(self, remainder: int) -> _KnownQueries:
        """Every other query, starting with the first or the second."""
        half = slice(remainder, None, 2)
        return _KnownQueries(self.rows[half], self.old[half], self.new[half], self.bridged[half])

    def bank(self, points: Points) -> Bank:
        """Make these queries the bank."""
        ids = [points.ids[row] for row in self.rows]
        return Bank(ids, self.old, self.new, self.bridged)


def _embed_known_queries(
    points: Points, questions: Questions, old: Vectors, new: Vectors, bridge: Projector
) -> _KnownQueries:
    # Made queries ask for one point each, so the first relevant one is the answer.
    place = {point: row for row, point in enumerate(points.ids)}
    rows = np.array([place[relevant[0]] for relevant in questions.relevant])
    return _KnownQueries(rows, old, new, bridge.apply_to_queries(new, questions.wording))


def _channels(
    store: Store, models: Models, points: Points, true: Vectors, forward: FitReport
) -> ChannelVectors:
    return ChannelVectors(
        points.old,
        project_unseen(forward, points.ids, points.old, points.side, models.stored),
        true,
        store.facts.distance,
        store.new_distance,
    )


def _trial(
    store: Store, points: Points, true: Vectors, questions: Questions, asked: _KnownQueries
) -> Trial:
    """Take the first queries as a trial among the known points."""
    some = slice(0, MAX_CENTRING)
    first = questions.select(range(len(questions))[some])
    return build_trial(store, points, true, (first, asked.old[some], asked.new[some]))


def _calibration_set(
    sides: ChannelVectors, asked: _KnownQueries, hubness: Mapping[Channel, PerPoint]
) -> CalibrationSet:
    return CalibrationSet(
        blocks=sides.blocks(asked.old, asked.new),
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

    def states(self, asked: _KnownQueries, part: slice) -> tuple[Scores, Scores]:
        """Fused scores of some queries with all points waiting, and with all re-encoded."""
        blocks = self.sides.blocks(asked.old[part], asked.new[part])
        count = len(self.points)
        # `state` says for each point whether it is re-encoded.
        waiting, encoded = (
            self.calibration.fusion.score(blocks, self.hubness, np.full(count, state))
            for state in (False, True)
        )
        return waiting, encoded


def _benefit(mixed: _Mixed, everything: _KnownQueries, scale: float, seed: int) -> BenefitModel:
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


def _blend(sides: ChannelVectors, asked: _KnownQueries) -> float:
    """Choose how far the old query is rotated towards the bridged one."""
    relevance = Relevance.from_rows(asked.rows[:, None].tolist())
    chosen, _ = choose_alpha(
        asked.old,
        asked.bridged,
        # Blended queries search the stored old vectors, so the blend needs no backfill.
        lambda queries: evaluate(sides.space(Channel.OLD, queries), relevance).means["mrr@10"],
    )
    return chosen


def _tune(
    sides: ChannelVectors, asked: _KnownQueries, points: Points, forward: Projector
) -> dict[str, float]:
    """Choose the parameter of each serving that is tuned by measuring, with nothing re-encoded."""
    specs = [find_serving(name) for name in list_measured()]
    tuned = [(spec.name, spec.tune) for spec in specs if spec.tune is not None]
    if not tuned:
        return {}
    some = slice(0, MAX_TUNING)
    relevance = Relevance.from_rows(asked.rows[some, None].tolist())
    blocks, none = sides.blocks(asked.old[some], asked.new[some]), np.zeros(len(points), np.bool_)

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
