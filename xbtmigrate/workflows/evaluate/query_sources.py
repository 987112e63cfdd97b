"""Choose where queries come from, the most trustworthy source first."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xbtmigrate.errors import EvaluationError
from xbtmigrate.evaluation.queries import Questions, make_excerpts, make_known_items
from xbtmigrate.evaluation.retrieval import rank_top_k
from xbtmigrate.types import Modality, Vectors
from xbtmigrate.workflows.evaluate.trial import Trial
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.points import Points, take
from xbtmigrate.workflows.store import Store

NEIGHBOURS = 10
MAX_POINTS_AS_QUERIES = 500


def make_questions(store: Store, models: Models, points: Points) -> Iterator[Questions]:
    """Yield queries made from the points themselves: another field, captions, or excerpts.

    None where the old model is gone: it could embed none, and there is `make_neighbour_trial`.
    """
    if not models.has_old:
        return
    payload, seed = store.config.payload, store.config.plan.seed
    # A field such as a title is nearest to what people type; excerpts share words with the text.
    if payload.query is not None:
        found = take(store.reader(query_field=payload.query), points.ids)
        yield from _unless_empty(make_known_items(found.ids, found.texts, payload.query))
    if models.stored is Modality.TEXT:
        yield from _unless_empty(make_excerpts(points.ids, points.texts, seed))
    elif payload.text is not None:
        yield from _unless_empty(make_known_items(points.ids, points.texts, payload.text))


def make_neighbour_trial(store: Store, models: Models, points: Points, new: Vectors) -> Trial:
    """Make a trial without queries: points search for their nearest points by the new model.

    Args:
        store: What the migration has in Qdrant.
        models: Both models.
        points: Points; the first quarter of them are queries, and the rest is the gallery.
        new: Their true new vectors.

    Raises:
        EvaluationError: There are too few points.
    """
    # Queries leave the gallery, or each point would find itself first.
    count = max(1, min(MAX_POINTS_AS_QUERIES, len(points) // 4))
    asking, rest = range(count), range(count, len(points))
    if not rest:
        more = "raise plan.sample" if store.facts.points > len(points) else "write more points"
        raise EvaluationError(
            f"{len(points)} of {store.facts.points:,} points are too few to make queries from",
            f"{more}, or give queries with relevance in plan.queries",
        )
    trial = Trial(
        questions=Questions([], [], "", provisional=True),
        ids=[points.ids[row] for row in rest],
        queries_old=points.old[asking],
        queries_new=new[asking],
        old=points.old[rest],
        new=new[rest],
        old_distance=store.facts.distance,
        new_distance=store.new_distance,
        side=None if points.side is None else points.side[rest],
        has_old_model=models.has_old,
    )
    # The new model's own neighbours count as right, so `full` is 1 by definition.
    near = rank_top_k(trial.full_space.score(), NEIGHBOURS)
    return trial.with_questions(
        Questions(
            [points.ids[row] for row in asking],
            [[trial.ids[row] for row in np.sort(rows)] for rows in near],
            "neighbours: the ten points nearest to a point by the new model are its relevant ones",
            provisional=True,
            limits="full is right by definition, so they show how near a system comes to the new "
            "model, not whether the new model is better than the old one",
            by_definition=True,
            modality=models.stored,
        )
    )


def _unless_empty(questions: Questions) -> Iterator[Questions]:
    if len(questions):
        yield questions
