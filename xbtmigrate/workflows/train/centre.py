"""Fit how far queries of the new space are centred, on judged or made queries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xbtmigrate.errors import CollectionError, EncoderError
from xbtmigrate.evaluation.mixed_gallery import in_step
from xbtmigrate.scoring.centring import DISTANCES, Centring
from xbtmigrate.side_information import TextSide
from xbtmigrate.training.fit import FitReport
from xbtmigrate.training.fit_centring import CentringTask, fit_centring
from xbtmigrate.training.pairs import PairSource
from xbtmigrate.types import Distance, Modality, PointId, Vectors
from xbtmigrate.workflows.encode_points import Report
from xbtmigrate.workflows.evaluate.embed_queries import CollectedPoints, add_answers, embed_queries
from xbtmigrate.workflows.evaluate.trial import Trial
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.store import Store
from xbtmigrate.workflows.workspace import Workspace

MAX_CENTRING = 1000
"""Most queries on which strengths are compared."""


def centre(trial: Trial, forward: FitReport, stored: Modality) -> Centring | None:
    """Fit on the queries of a trial; None if centring is not possible or they are too few.

    Args:
        trial: Queries, and a gallery whose true new vectors are known.
        forward: Fit of the forward projector.
        stored: What the gallery's vectors embed.
    """
    if not _can_gain(stored, trial.new_distance):
        return None
    seen = set(forward.unseen.ids) if forward.unseen is not None else set()
    projected = project_unseen(forward, trial.ids, trial.old, trial.side, stored)
    uncertainty = forward.projector.uncertainty(trial.old, trial.side)
    paid = np.flatnonzero([point in seen for point in trial.ids])
    order = in_step(np.argsort(-uncertainty, kind="stable"), paid)
    task = CentringTask(
        trial.questions.texts,
        trial.queries_new,
        trial.relevance,
        projected,
        trial.new,
        order,
        trial.new_distance,
    )
    return fit_centring(task, forward=forward.projector.digest, basis=trial.questions.basis)


def centre_on_judged(
    store: Store,
    models: Models,
    workspace: Workspace,
    known: CollectedPoints,
    *,
    forward: FitReport,
    text_side: TextSide | None,
    report: Report,
) -> Centring | None:
    """Fit on the judged queries whose answers are known; None if there are too few.

    Args:
        store: What the migration has in Qdrant.
        models: Both models.
        workspace: The migration's files.
        known: Sampled points with their true new vectors.
        forward: Fit of the forward projector.
        text_side: What made the points' side vectors; None where they were stored, or none is used.
        report: Called with progress.

    Evaluations use the same queries, in folds: each is measured with strengths that were fitted
    without it.
    """
    # Before any query is embedded, which costs money with some models.
    if not _can_gain(models.stored, store.new_distance):
        return None
    for questions in workspace.judged_queries:
        asked = questions.sample(MAX_CENTRING, store.config.plan.seed)
        try:
            # The plan has encoded their vectors, so none is encoded for this.
            collected = add_answers(
                *(store, known, asked),
                embed=lambda points: workspace.cache.find(points.hashes),
                text_side=text_side,
            )
            trial = embed_queries(store, models, collected, asked, report)
        except (CollectionError, EncoderError):
            continue
        found = centre(trial, forward, models.stored)
        if found is not None:
            return found
    return None


def project_unseen(
    forward: FitReport,
    ids: Sequence[PointId],
    old: Vectors,
    side: Vectors | None,
    stored: Modality,
) -> Vectors:
    """Project stored vectors with maps that were not fitted on them, (n, d_new)."""
    applied, unseen = forward.projector.apply(old, side), forward.unseen
    # Maps fitted on captions have seen no stored image vector, so the final one is not biased.
    texts_for_images = stored is Modality.IMAGE and (
        unseen is not None and unseen.source is PairSource.TEXT
    )
    if unseen is None or texts_for_images:
        return applied
    return unseen.of(ids, applied)


def _can_gain(stored: Modality, distance: Distance) -> bool:
    # Among images queries may be texts or images, whose components along the mean differ, and
    # centring gained nothing (docs/serving.md).
    return stored is not Modality.IMAGE and distance in DISTANCES
