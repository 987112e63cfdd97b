"""Workflows: calibrate the fusion of a mixed gallery on queries whose answers are known.

Half of the queries are asked; the other half is the bank that the hubness of points is measured
against. All of them ask for points whose true new vectors are known, and no map used here has seen
the point it projects.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbtmigrate.errors import EncoderError
from xbtmigrate.evaluation.retrieval import Relevance, evaluate
from xbtmigrate.protocols import Projector
from xbtmigrate.serving.arrangement import Arrangement, Bank
from xbtmigrate.serving.blend import choose_alpha
from xbtmigrate.serving.calibration import LEAST_QUERIES, CalibrationSet, calibrate
from xbtmigrate.training.fit import FitReport
from xbtmigrate.training.pairs import PairSource
from xbtmigrate.types import Channel, Modality, Vectors
from xbtmigrate.workflows.encoding import encode_readable
from xbtmigrate.workflows.measuring import Sides
from xbtmigrate.workflows.pairing import Embedded
from xbtmigrate.workflows.questions import Questions
from xbtmigrate.workflows.sampling import Points
from xbtmigrate.workflows.wiring import Migration

MOST_QUERIES = 4000
MOST_POINTS = 6000


def arrange(
    migration: Migration,
    points: Points,
    new: Embedded,
    fits: tuple[FitReport, FitReport],
    questions: Questions,
) -> Arrangement | None:
    """Calibrate on points whose true new vectors are known.

    Args:
        migration: The migration.
        points: Sampled points.
        new: Their true new vectors.
        fits: Fits of the bridge and of the forward projector.
        questions: Queries, each asking for one of the points.

    Returns:
        The arrangement, or None where there are too few queries that both models can embed.
    """
    seed = migration.config.plan.seed
    rows = np.flatnonzero(new.valid)[:MOST_POINTS]
    points, true = points.rows(rows), new.vectors[rows]
    questions = questions.answerable(set(points.ids)).sampled(MOST_QUERIES, seed)
    embedded = _embedded(migration, questions)
    if embedded is None:
        return None
    bridge, forward = fits
    sides = Sides(
        points.old,
        _projected(migration, points, forward),
        true,
        migration.facts.distance,
        migration.new_distance,
    )
    asked, bank = _halves(points, *embedded)
    return Arrangement(
        calibrate(_calibration_set(sides, asked, bank, points), seed=seed),
        _blend(sides, asked, bridge.projector),
        bank,
        (bridge.projector.digest, forward.projector.digest),
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """Queries in both models, and the row that answers each."""

    rows: npt.NDArray[np.intp]
    old: Vectors
    new: Vectors


def _halves(
    points: Points, questions: Questions, old: Vectors, new: Vectors
) -> tuple[_Asked, Bank]:
    place = {point: row for row, point in enumerate(points.ids)}
    answers = np.array([place[relevant[0]] for relevant in questions.relevant])
    bank = Bank([points.ids[row] for row in answers[1::2]], old[1::2], new[1::2])
    return _Asked(answers[::2], old[::2], new[::2]), bank


def _calibration_set(sides: Sides, asked: _Asked, bank: Bank, points: Points) -> CalibrationSet:
    return CalibrationSet(
        blocks={
            Channel.OLD: sides.space(Channel.OLD, asked.old).scores(),
            Channel.FORWARD: sides.space(Channel.FORWARD, asked.new).scores(),
            Channel.NEW: sides.space(Channel.NEW, asked.new).scores(),
        },
        query=np.arange(len(asked.rows)),
        row=asked.rows,
        hubness=sides.hubness(bank, points.ids),
    )


def _blend(sides: Sides, asked: _Asked, bridge: Projector) -> float:
    """Choose how far the old query is turned towards the bridged one."""
    relevance = Relevance.from_rows(asked.rows[:, None].tolist())
    chosen, _ = choose_alpha(
        asked.old,
        bridge.apply(asked.new),
        lambda queries: evaluate(sides.space(Channel.OLD, queries), relevance).means["mrr@10"],
    )
    return chosen


def _embedded(
    migration: Migration, questions: Questions
) -> tuple[Questions, Vectors, Vectors] | None:
    """Queries that both models can embed, with their vectors; None if they are too few."""
    try:
        old = encode_readable(migration.old_encoder, questions.texts, Modality.TEXT)
        new = encode_readable(migration.new_encoder, questions.texts, Modality.TEXT)
    except EncoderError:
        return None
    rows = np.flatnonzero(old[1] & new[1])
    if len(rows) < 2 * LEAST_QUERIES:
        return None
    return questions.kept(rows), old[0][rows], new[0][rows]


def _projected(migration: Migration, points: Points, forward: FitReport) -> Vectors:
    """Projections of the stored vectors by maps that had not seen them."""
    applied = forward.projector.apply(points.old)
    unseen = forward.unseen
    texts_for_images = migration.stored is Modality.IMAGE and (
        unseen is not None and unseen.source is PairSource.TEXT
    )
    if unseen is None or texts_for_images:
        return applied
    return unseen.of(points.ids, applied)
