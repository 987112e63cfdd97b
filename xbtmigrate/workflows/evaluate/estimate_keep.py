"""Estimate what the old model would bring where it is gone and can embed no query."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from xbtmigrate.errors import EvaluationError
from xbtmigrate.evaluation.queries import Questions
from xbtmigrate.projectors import Projector
from xbtmigrate.types import Modality
from xbtmigrate.workflows.evaluate.trial import Trial

MIN_DOCUMENTS = 20
"""Fewest queries that documents can stand for; below it the bridge stands for them."""


def estimate_keep(trial: Trial, bridge: Projector | None, stored: Modality) -> Trial:
    """Return a trial in which keep can be measured although the old model is gone.

    Judged documents stand for the queries where they can: a document asks for the others that are
    relevant to the same query, in both spaces, so that all systems answer alike. Where most queries
    have one relevant document, the queries themselves are projected into the old space.

    Args:
        trial: Queries and gallery. One of an old model that can be run, and one in which documents
            ask anyway, stay as they are.
        bridge: Projector of new queries into the old space; None where none is fitted.
        stored: What the gallery's vectors embed.

    Raises:
        EvaluationError: Neither is possible.
    """
    if not trial.estimates_keep:
        return trial
    asked = _ask_by_documents(trial, stored)
    # A tiny gallery has fewer queries than that and is measured nevertheless.
    if len(asked.questions) >= min(MIN_DOCUMENTS, max(1, len(trial.questions))):
        return asked
    if bridge is None:
        raise EvaluationError(
            "the old model is gone, and nothing can stand for its queries: "
            f"{len(asked.questions)} of them have a second relevant point, and there is no bridge",
            "run `xbtmigrate train-projector`, or judge more points for each query",
        )
    limits = (
        "keep is an estimate, because the old model is gone: the bridge stands for it, which "
        "usually finds less than the old model did"
    )
    return replace(
        trial,
        questions=replace(trial.questions, limits=limits),
        queries_old=bridge.apply_to_queries(trial.queries_new, trial.questions.wording),
    )


def _ask_by_documents(trial: Trial, stored: Modality) -> Trial:
    """Let the first relevant point of each query ask for the others; these points leave the rest.

    A document that could be found by itself would come first for every model.
    """
    row_of = {point: row for row, point in enumerate(trial.ids)}
    answers = [
        [row_of[point] for point in points if point in row_of]
        for points in trial.questions.relevant
    ]
    asking = {rows[0] for rows in answers if len(rows) > 1}
    # What is left of each query's answers: those that ask themselves are not in the gallery.
    left = [(rows[0], [row for row in rows[1:] if row not in asking]) for rows in answers if rows]
    pairs = [(row, rest) for row, rest in left if rest]
    first = np.array([row for row, _ in pairs], np.intp)
    kept = np.setdiff1d(np.arange(len(trial.ids)), first)
    questions = trial.questions
    return replace(
        trial,
        questions=Questions(
            [str(trial.texts[row] if trial.texts else trial.ids[row]) for row in first],
            [[trial.ids[row] for row in rest] for _, rest in pairs],
            f"{questions.basis}, with documents in place of queries: a relevant document asks for "
            "the others of its query",
            provisional=False,
            limits="keep is an estimate, because the old model is gone: documents ask in place of "
            "queries, which flatters a model that understands short queries badly",
            modality=stored,
        ),
        ids=[trial.ids[row] for row in kept],
        queries_old=trial.old[first],
        queries_new=trial.new[first],
        old=trial.old[kept],
        new=trial.new[kept],
        side=None if trial.side is None else trial.side[kept],
        texts=[trial.texts[row] for row in kept] if trial.texts else (),
    )
