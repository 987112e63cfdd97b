"""Leave a bridge without words where these mislead judged queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from xbtmigrate.errors import EncoderError
from xbtmigrate.evaluation.queries import Questions
from xbtmigrate.projectors import Projector
from xbtmigrate.training.fit import FitReport
from xbtmigrate.training.selection import measure_retrieval
from xbtmigrate.types import Modality, Vectors
from xbtmigrate.workflows.encode_points import Report, encode_readable
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.points import Points, take
from xbtmigrate.workflows.store import Store

MAX_JUDGED = 500


def check_words(
    store: Store,
    models: Models,
    judged: Sequence[Questions],
    points: Points,
    *,
    found: FitReport,
    report: Report,
) -> FitReport:
    """Compare a bridge with itself without words, on judged text queries.

    Maps are chosen by documents, whose words always say something of them. Queries may share no
    word with their answers, as in a reverse dictionary.

    Args:
        store: What the migration has in Qdrant.
        models: Both models.
        judged: Judged queries.
        points: Points that are searched, beside those that answer the queries.
        found: Fit of the bridge.
        report: Called with progress.

    Returns:
        The fit, its bridge without words where it then finds more. As it is without judged text
        queries.
    """
    texts = [each for each in judged if each.modality is Modality.TEXT]
    if found.projector.plain is None or not texts:
        return found
    asked = texts[0].sample(MAX_JUDGED, store.config.plan.seed)
    wanted = {point for relevant in asked.relevant for point in relevant} - set(points.ids)
    if wanted:
        # Sorted, so that equal scores go the same way in every process.
        points = points.join(take(store.reader(), sorted(wanted)))
    asked = asked.keep_answerable(set(points.ids))
    try:
        vectors, readable = encode_readable(
            *(models.new, asked.texts, Modality.TEXT), report=report, stage="queries, new model"
        )
    except EncoderError:
        return found
    rows = np.flatnonzero(readable)
    if not rows.size:
        return found
    bridge = choose_words(found.projector, asked.select(rows), vectors[rows], points)
    return replace(found, projector=bridge)


def choose_words(
    bridge: Projector, questions: Questions, queries: Vectors, points: Points
) -> Projector:
    """Return a bridge as it is or without words, whichever answers queries better.

    Args:
        bridge: A bridge with a map for queries without words.
        questions: The queries, m.
        queries: Their vectors in the new model, (m, d_new).
        points: The points that are searched.
    """
    place = {point: row for row, point in enumerate(points.ids)}
    relevant = [
        np.array([place[point] for point in asked if point in place])
        for asked in questions.relevant
    ]
    plain, distance = bridge.without_side(), bridge.manifest.output_distance
    with_words, without = (
        measure_retrieval(mapped, points.old, relevant, distance).mrr
        for mapped in (bridge.apply_to_queries(queries, questions.texts), plain.apply(queries))
    )
    return plain if without > with_words else bridge
