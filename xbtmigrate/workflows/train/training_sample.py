"""Draw the points that projectors are trained on, and embed them with the new model."""

from __future__ import annotations

import numpy as np

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.errors import TrainingError
from xbtmigrate.evaluation.queries import FREE, choose_held_out
from xbtmigrate.migration.plan import Plan
from xbtmigrate.types import Modality, PointId
from xbtmigrate.workflows.encode_points import Report, encode_gallery
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.points import Points, survey, take
from xbtmigrate.workflows.store import Store
from xbtmigrate.workflows.train.make_pairs import EmbeddedRows
from xbtmigrate.workflows.workspace import Workspace

IMAGE_PAIRS = 2000
"""Most images encoded for pairs: unlike captions they are slow, and not always needed."""


def load_trainable_plan(store: Store, models: Models, artefacts: Artefacts) -> Plan:
    """Load the plan; raise if it is stale or already being carried out."""
    plan = artefacts.load_plan()
    plan.check_current(store.binding(models.new.fingerprint))
    store.refuse_while_under_way("with a new projector, the gallery would mix vectors of two maps")
    return plan


def draw_points(
    store: Store, workspace: Workspace, plan: Plan, pairs: int | None, report: Report
) -> tuple[Points, list[PointId]]:
    """Draw the points of the pairs, starting with those encoded for the plan.

    Points that the configured queries ask for are left out: pairs of them would bias the
    measurement.

    Returns:
        The points, and those held out by fold where not all that queries ask for could be.
    """
    reader, judged = store.reader(), workspace.judged_queries
    asked = {point for each in judged for points in each.relevant for point in points}
    count = plan.coverage.points if pairs is None else pairs
    # So many more that enough remain once the points that queries ask for are left out. With the
    # seed of `plan` the survey draws that sample first, and its vectors are in the cache.
    seen = survey(reader, sample=max(count, FREE) + len(asked), seed=plan.seed, report=report)
    held = choose_held_out(judged, seen.sample, plan.seed)
    points = take(reader, [point for point in seen.sample if point not in held][:count])
    if not len(points):
        raise TrainingError(
            "no point has both its source and an old vector",
            "check payload and qdrant.vector, and plan again",
        )
    # Recorded only where it narrows the queries that may measure these maps.
    return points, [] if held == asked else sorted(held)


def embed_points(
    models: Models, workspace: Workspace, points: Points, report: Report
) -> EmbeddedRows:
    """Return new vectors of the embedded field; images are encoded up to IMAGE_PAIRS in all."""
    if models.stored is Modality.TEXT:
        found = encode_gallery(models.new, workspace.cache, points, Modality.TEXT, report=report)
        return EmbeddedRows(*found)
    vectors, valid = workspace.cache.find(points.hashes)
    # Cached vectors count towards the limit, so a repeated command encodes no more.
    missing = np.flatnonzero(~valid)[: max(0, IMAGE_PAIRS - int(valid.sum()))]
    vectors[missing], valid[missing] = encode_gallery(
        models.new,
        workspace.cache,
        points.rows(missing),
        Modality.IMAGE,
        report=report,
        stage="images, new model",
    )
    return EmbeddedRows(vectors, valid)
