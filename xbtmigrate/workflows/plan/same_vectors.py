"""Recognise a new model whose vectors are the stored ones, or can be searched with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from xbtmigrate.evaluation.answer_ranks import evaluate
from xbtmigrate.evaluation.comparison import compare
from xbtmigrate.evaluation.recommendation import Recommendation
from xbtmigrate.evaluation.retrieval import QueryScores, SearchSpace
from xbtmigrate.migration.plan import Compatibility, Relation
from xbtmigrate.scoring.mixture import SINGLE
from xbtmigrate.types import Distance, Strategy, Vectors, normalized
from xbtmigrate.workflows.evaluate.results import METRIC, Findings
from xbtmigrate.workflows.plan.model_match import EXACT, SPREAD
from xbtmigrate.workflows.plan.sample import MIN_QUERIES

NEARLY = 0.95
"""Least share of what the old model's queries find that makes another model compatible."""


def compare_spaces(old: Vectors, new: Vectors, found: Findings) -> Compatibility:
    """Compare the new model's vectors with the stored ones, number by number.

    Args:
        old: Stored vectors of a sample, (n, d_old).
        new: The new model's vectors of the same contents, (n, d_new).
        found: What was measured on the sample.
    """
    trial, numbers = found.trial, min(old.shape[1], new.shape[1])
    crossed = _ask_stored(trial.queries_new, trial.old, trial.old_distance, found)
    relation = Relation.DIFFERENT
    if trial.old_distance is trial.new_distance:
        if _are_same(old[:, :numbers], new[:, :numbers], trial.old_distance):
            relation = _relation(old.shape[1], new.shape[1])
        elif _finds_enough(crossed, found):
            relation = Relation.COMPATIBLE
    return Compatibility(
        relation=relation,
        sample=len(old),
        numbers=numbers,
        median_cosine=float(np.median(_cosines(old[:, :numbers], new[:, :numbers]))),
        old_old=found.keep.means[METRIC],
        new_old=crossed.means[METRIC],
        new_new=found.full.means[METRIC],
    )


def advise_by_vectors(
    found: Compatibility, advised: Recommendation, measured: Findings
) -> Recommendation:
    """Return the recommendation where the vectors show that there is less to do, else `advised`.

    That two models make the same vectors needs no judged queries to be seen.
    """
    keep, full = measured.keep, measured.full
    seen = f"median cosine {found.median_cosine:.4f} on {found.sample} points"
    figures = f"{measured.task} {METRIC} {keep.means[METRIC]:.3f} against {full.means[METRIC]:.3f}"
    if found.relation is Relation.SAME:
        reason = (
            f"the new model makes the stored vectors themselves ({seen}): no migration is needed, "
            "let every application embed with it"
        )
        return Recommendation(Strategy.KEEP, None, None, 0.0, reason, keep)
    if found.relation is Relation.LONGER:
        reason = (
            f"the stored vectors are the first {found.numbers} numbers of the new model's ({seen}; "
            f"{figures} by all of them): no migration is needed, let every application embed with "
            f"it and cut its vectors to {found.numbers}, as its encoder's option does"
        )
        # All numbers may find more than the stored ones: judged queries can show that.
        if advised.strategy not in (None, Strategy.KEEP):
            return replace(advised, reason=f"{advised.reason}; without it, {reason}")
        return Recommendation(Strategy.KEEP, None, None, 0.0, reason, keep)
    if found.relation is Relation.CUT:
        reason = (
            f"the new model's vectors are the first {found.numbers} numbers of the stored ones "
            f"({seen}; {figures} with them): a cut of the stored vectors is enough, by the "
            "projector `compatible`, and embeds nothing"
        )
        if not advised.provisional and _is_worse(full, measured):
            return replace(advised, reason=f"{advised.reason}; to save memory, {reason}")
        return Recommendation(Strategy.FORWARD, None, SINGLE.name, 0.0, reason, full)
    return advised


def warn_of_compatibility(found: Compatibility) -> list[str]:
    """Say that readers can change models first, where that is so."""
    if found.relation is not Relation.COMPATIBLE:
        return []
    return [
        "queries of the new model find in the stored vectors nearly what those of the old one find "
        f"(sample {METRIC} {found.new_old:.3f} against {found.old_old:.3f}): readers may change "
        "models before anything is re-encoded"
    ]


def _relation(d_old: int, d_new: int) -> Relation:
    if d_old == d_new:
        return Relation.SAME
    return Relation.LONGER if d_new > d_old else Relation.CUT


def _are_same(old: Vectors, new: Vectors, distance: Distance) -> bool:
    if np.median(_cosines(old, new)) < EXACT:
        return False
    # Qdrant normalises vectors under cosine; other distances see their lengths.
    if distance is Distance.COSINE:
        return True
    lengths = np.linalg.norm(new, axis=1) / np.maximum(np.linalg.norm(old, axis=1), 1e-12)
    return bool(abs(np.median(lengths) - 1) <= SPREAD)


def _cosines(old: Vectors, new: Vectors) -> npt.NDArray[np.float32]:
    return np.asarray((normalized(old) * normalized(new)).sum(axis=1), np.float32)


def _ask_stored(
    queries: Vectors, stored: Vectors, distance: Distance, found: Findings
) -> QueryScores:
    """Search stored vectors with queries of the new model as they are, cut or padded with zeros."""
    numbers = min(queries.shape[1], stored.shape[1])
    asked = np.zeros((len(queries), stored.shape[1]), np.float32)
    asked[:, :numbers] = queries[:, :numbers]
    return evaluate(SearchSpace(asked, stored, distance), found.trial.relevance)


def _finds_enough(crossed: QueryScores, found: Findings) -> bool:
    """Return whether queries of the new model find nearly what those of the old one find."""
    enough = crossed.means[METRIC] >= NEARLY * found.keep.means[METRIC] > 0
    # By documents, or with few queries, a chance would pass for compatibility.
    sure = len(found.trial.questions) >= MIN_QUERIES and found.trial.has_old_model
    return enough and sure and not _is_worse(crossed, found)


def _is_worse(scores: QueryScores, found: Findings) -> bool:
    """Return whether a system is significantly worse than keep."""
    return compare(scores, found.keep, found.full, seed=found.seed).standing(METRIC) == "worse"
