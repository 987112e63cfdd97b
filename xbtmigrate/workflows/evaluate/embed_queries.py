"""Embed the queries of an evaluation with both models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from xbtmigrate.errors import CollectionError, EncoderError
from xbtmigrate.evaluation.queries import Questions
from xbtmigrate.side_information import TextSide
from xbtmigrate.types import Vectors
from xbtmigrate.workflows.encode_points import Report, encode_questions
from xbtmigrate.workflows.evaluate.trial import Trial
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.points import Points, take
from xbtmigrate.workflows.store import Store


@dataclass(frozen=True, slots=True)
class CollectedPoints:
    """Points with their true new vectors, and warnings about how they were collected."""

    points: Points
    new: Vectors
    warnings: list[str] = field(default_factory=list)


def add_answers(
    store: Store,
    known: CollectedPoints,
    questions: Questions,
    *,
    embed: Callable[[Points], tuple[Vectors, npt.NDArray[np.bool_]]],
    text_side: TextSide | None,
) -> CollectedPoints:
    """Add the points that queries ask for and that are not among the known ones.

    Args:
        store: What the migration has in Qdrant.
        known: The known points.
        questions: The queries.
        embed: Returns new vectors of k points, (k, d_new), and the mask of those that have one.
        text_side: What made the points' side vectors; None where they were stored, or none is used.
    """
    present = set(known.points.ids)
    # Sorted: sets of strings iterate differently in each process, and figures must not.
    absent = sorted({point for relevant in questions.relevant for point in relevant} - present)
    extra = take(store.reader(), absent) if absent else known.points.rows([])
    if not len(extra):
        return known
    vectors, valid = embed(extra)
    rows = np.flatnonzero(valid)
    extra = extra.rows(rows)
    if text_side is not None:
        extra = replace(extra, side=text_side.embed(extra.texts))
    return CollectedPoints(known.points.join(extra), np.concatenate([known.new, vectors[rows]]))


def _keep_answerable(store: Store, collected: CollectedPoints, questions: Questions) -> Questions:
    """Keep the queries with a relevant point in the gallery; warn about the others.

    Raises:
        CollectionError: There are none.
    """
    modality = questions.modality
    asked = questions.keep_answerable(set(collected.points.ids))
    if not len(asked):
        raise CollectionError(
            f"none of the relevant points of {len(questions)} {modality} queries is in "
            f"'{store.facts.collection}'",
            "the column relevant must hold point ids of this collection, as strings",
        )
    if len(asked) < len(questions):
        lost = len(questions) - len(asked)
        collected.warnings.append(
            f"{lost} {modality} queries left out: their relevant points are not in the gallery"
        )
    return asked


def embed_queries(
    store: Store, models: Models, collected: CollectedPoints, questions: Questions, report: Report
) -> Trial:
    """Embed queries with both models; unusable ones are left out with a warning.

    Raises:
        CollectionError: None of the relevant points is in the gallery.
        EncoderError: No query can be embedded by both models.
    """
    modality, warnings = questions.modality, collected.warnings
    asked = _keep_answerable(store, collected, questions)
    embedded = encode_questions(models, asked, report=report)
    usable = len(embedded[0])
    if not usable:
        raise EncoderError(
            f"no {modality} query could be embedded by both models",
            "for precomputed vectors the files must hold the queries too",
        )
    if usable < len(asked):
        lost = len(asked) - usable
        warnings.append(f"{lost} {modality} queries left out: a model cannot embed them")
    return build_trial(store, collected.points, collected.new, embedded)


def build_trial(
    store: Store, points: Points, true: Vectors, embedded: tuple[Questions, Vectors | None, Vectors]
) -> Trial:
    """Build a trial of m embedded queries and n points.

    Args:
        store: What the migration has in Qdrant.
        points: The points that are searched.
        true: Their true new vectors, (n, d_new).
        embedded: The queries, their old vectors (m, d_old) and their new ones (m, d_new); None for
            the old ones where the old model is gone, see `estimate_keep`.
    """
    questions, old, new = embedded
    return Trial(
        questions=questions,
        ids=points.ids,
        queries_old=np.zeros((len(new), points.old.shape[1]), np.float32) if old is None else old,
        queries_new=new,
        old=points.old,
        new=true,
        old_distance=store.facts.distance,
        new_distance=store.new_distance,
        side=points.side,
        texts=points.texts,
        has_old_model=old is not None,
    )
