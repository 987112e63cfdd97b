"""Write a mixture of both spaces' scores as a Qdrant formula, which the server computes.

A formula depends on the state of the migration but not on the query: it is built once per reload
and kept with the state (`ActiveServing.formula`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qdrant_client import models

from xbtmigrate.qdrant.gallery.provenance import PLAN_LENGTH, PROVENANCE
from xbtmigrate.scoring.hubness import StoredHubness
from xbtmigrate.scoring.mixture import Mixture, Part, State
from xbtmigrate.serving.space import ServingSpace
from xbtmigrate.types import Kind


@dataclass(frozen=True, slots=True)
class FormulaBuilder:
    """Builds the formula of a mixture.

    Attributes:
        old: The old vectors; their score is `$score[0]`.
        new: The new vectors; their score is `$score[1]`.
        plan: Digest of the plan that the provenance of re-encoded points names.
        waiting: Whether there are points without a new vector.
        hubness: Hubness stored on the points, None where there is none.
    """

    old: ServingSpace
    new: ServingSpace
    plan: str
    waiting: bool
    hubness: StoredHubness | None

    def build(self, mixture: Mixture) -> models.FormulaQuery:
        """Sum the parts of a projected point, and the differences for points in other states."""
        # score = old * s_old + new * s_new + offset, with weights by the state of the point. Qdrant
        # counts a condition as 1 or 0, so `condition * (weights - base)` corrects only its points.
        base = mixture.parts[State.PROJECTED]
        is_encoded = match_encoded(self.plan, self.new.name)
        terms = [self._expression(base)]
        differing = {State.ENCODED: is_encoded}
        if self.waiting:
            differing[State.WAITING] = match_missing(self.new.name)
        for state, condition in differing.items():
            part = mixture.parts[state]
            more = Part(part.old - base.old, part.new - base.new, part.offset - base.offset)
            if more != Part(0.0, 0.0):
                terms.append(models.MultExpression(mult=[condition, self._expression(more)]))
        # Qdrant counts a missing score as its default, so with 0 a point needs no second
        # condition for a vector that it lacks.
        defaults: dict[str, Any] = {"$score[0]": 0.0, "$score[1]": 0.0}
        if mixture.hubness and self.hubness is not None:
            terms += _hubness_terms(self.hubness, is_encoded, defaults)
        return models.FormulaQuery(formula=models.SumExpression(sum=terms), defaults=defaults)

    def _expression(self, part: Part) -> models.Expression:
        """Write `old * $score[0] + new * $score[1] + offset`."""
        weights = (part.old * self.old.sign, part.new * self.new.sign)
        terms: list[models.Expression] = [
            models.MultExpression(mult=[float(weight), f"$score[{place}]"])
            for place, weight in enumerate(weights)
            if weight
        ]
        if part.offset or not terms:
            terms.append(float(part.offset))
        return models.SumExpression(sum=terms)


def match_encoded(plan: str, vector: str) -> models.Filter:
    """Match the points whose new vector was made by the new model under this plan.

    Args:
        plan: Digest of the plan.
        vector: Name of the new vector.
    """
    return models.Filter(
        must=[
            # An application that replaces a point may write back its mark without its new vector:
            # the mark alone does not make a point encoded.
            _match("kind", Kind.ENCODED.value),
            _match("plan", plan[:PLAN_LENGTH]),
            models.HasVectorCondition(has_vector=vector),
        ]
    )


def match_missing(vector: str) -> models.Filter:
    """Match the points that lack a vector."""
    return models.Filter(must_not=[models.HasVectorCondition(has_vector=vector)])


def _match(key: str, value: str) -> models.FieldCondition:
    return models.FieldCondition(key=f"{PROVENANCE}.{key}", match=models.MatchValue(value=value))


def _hubness_terms(
    stored: StoredHubness, is_encoded: models.Filter, defaults: dict[str, Any]
) -> list[models.Expression]:
    """Add a point's stored hubness, or the mean of its state if it has none yet."""
    path = f"{PROVENANCE}.{stored.key}"
    # A point without the number counts as average. A default cannot depend on the state, so
    # encoded points get the difference by a condition.
    defaults[path] = stored.projected
    absent = models.IsEmptyCondition(is_empty=models.PayloadField(key=path))
    unmarked = models.Filter(must=[is_encoded, absent])
    gap = stored.encoded - stored.projected
    return [path, models.MultExpression(mult=[gap, unmarked])]
