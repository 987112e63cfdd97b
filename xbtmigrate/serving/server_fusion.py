"""Room `search`: from a mixture and query vectors to Qdrant's requests. Pure functions.

Where the server can, one request does it all: each space contributes its nearest points, all of
them are scored in both spaces, and a formula adds the parts up by the state of each point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from qdrant_client import models

from xbtmigrate.qdrant.gallery.provenance import PLAN_LENGTH, PROVENANCE
from xbtmigrate.scoring.hubness import StoredHubness
from xbtmigrate.scoring.mixture import Mixture, Part, State
from xbtmigrate.serving.round_trips import Search
from xbtmigrate.serving.state import Situation, Space
from xbtmigrate.types import Kind

MIN_DEPTH = 128
"""Points that each space contributes to a fused answer, at least."""

Selector: TypeAlias = bool | Sequence[str] | models.PayloadSelectorInclude | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a search asks for besides its query vectors; passed on to Qdrant as it is.

    Attributes:
        limit: Points to return.
        offset: Points to leave out first.
        filter: Qdrant's filter.
        with_payload: Qdrant's payload selector.
        with_vectors: Qdrant's vector selector.
        score_threshold: Least score, in the scale of the serving.
        params: Qdrant's search parameters, used in both spaces.
        shard_key: Shard keys to search.
        options: What goes with the request, such as a timeout.
    """

    limit: int = 10
    offset: int = 0
    filter: models.Filter | None = None
    with_payload: Any = True
    with_vectors: Any = False
    score_threshold: float | None = None
    params: models.SearchParams | None = None
    shard_key: models.ShardKeySelector | None = None
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def depth(self) -> int:
        """Points that each space contributes; in steps, so that pages see the same candidates."""
        depth = MIN_DEPTH
        while depth < 4 * (self.limit + self.offset):
            depth *= 2
        return depth


@dataclass(frozen=True, slots=True)
class QueryVectors:
    """One query in both spaces; None where it is not needed."""

    old: list[float] | None
    new: list[float] | None


def in_one_space(space: Space, vector: list[float], wanted: Wanted) -> Search:
    """Search one space: what the application would have asked by itself."""
    return Search(
        space.collection,
        models.QueryRequest(
            query=models.NearestQuery(nearest=vector),
            using=space.name or None,
            filter=wanted.filter,
            params=wanted.params,
            limit=wanted.limit,
            offset=wanted.offset or None,
            score_threshold=wanted.score_threshold,
            with_payload=wanted.with_payload,
            with_vector=wanted.with_vectors,
            shard_key=wanted.shard_key,
        ),
        wanted.options,
    )


def in_both_spaces(
    situation: Situation, mixture: Mixture, query: QueryVectors, wanted: Wanted
) -> Search:
    """Search and fuse both spaces of one collection in one request; the threshold is left out."""
    formula = formula_of(situation, mixture)
    return Search(
        situation.old.collection,
        models.QueryRequest(
            prefetch=scored_in_both(situation, query, wanted),
            query=formula,
            limit=wanted.limit,
            offset=wanted.offset or None,
            with_payload=wanted.with_payload,
            with_vector=wanted.with_vectors,
            shard_key=wanted.shard_key,
        ),
        wanted.options,
    )


def scored_in_both(
    situation: Situation, query: QueryVectors, wanted: Wanted
) -> list[models.Prefetch]:
    """The nearest points of either space, scored in the old space and in the new one."""
    sides = [(situation.old, query.old), (situation.new, query.new)]
    nearest = [
        models.Prefetch(
            query=models.NearestQuery(nearest=vector),
            using=space.name or None,
            filter=wanted.filter,
            params=wanted.params,
            limit=wanted.depth,
        )
        for space, vector in sides
        if vector is not None
    ]
    return [
        models.Prefetch(
            prefetch=nearest,
            query=models.NearestQuery(nearest=vector),
            using=space.name or None,
            limit=2 * wanted.depth,
        )
        for space, vector in sides
        if vector is not None
    ]


def formula_of(situation: Situation, mixture: Mixture) -> models.FormulaQuery:
    """Add up the parts of a mixture: those of a projected point, and what differs in other states.

    A missing score counts as 0, so a point needs no second condition for a vector it lacks.
    """
    base = mixture.parts[State.PROJECTED]
    is_encoded = encoded(situation)
    terms = [_expression(situation, base)]
    differing = {State.ENCODED: is_encoded}
    if situation.waiting:
        differing[State.WAITING] = has_no(situation.new.name)
    for state, condition in differing.items():
        part = mixture.parts[state]
        more = Part(part.old - base.old, part.new - base.new, part.offset - base.offset)
        if more != Part(0.0, 0.0):
            terms.append(models.MultExpression(mult=[condition, _expression(situation, more)]))
    defaults: dict[str, Any] = {"$score[0]": 0.0, "$score[1]": 0.0}
    if mixture.hubness and situation.hubness is not None:
        terms += _hubness(situation.hubness, is_encoded, defaults)
    return models.FormulaQuery(formula=models.SumExpression(sum=terms), defaults=defaults)


def encoded(situation: Situation) -> models.Filter:
    """Select the points whose new vector this plan made with the new model."""
    return models.Filter(
        must=[
            _matches("kind", Kind.ENCODED.value),
            _matches("plan", situation.plan.digest[:PLAN_LENGTH]),
            models.HasVectorCondition(has_vector=situation.new.name),
        ]
    )


def has_no(vector: str) -> models.Filter:
    """Select the points that lack a vector."""
    return models.Filter(must_not=[models.HasVectorCondition(has_vector=vector)])


def _matches(key: str, value: str) -> models.FieldCondition:
    return models.FieldCondition(key=f"{PROVENANCE}.{key}", match=models.MatchValue(value=value))


def _hubness(
    stored: StoredHubness, is_encoded: models.Filter, defaults: dict[str, Any]
) -> list[models.Expression]:
    """The stored number; its mean by state for a point that has none yet."""
    path = f"{PROVENANCE}.{stored.key}"
    defaults[path] = stored.projected
    absent = models.IsEmptyCondition(is_empty=models.PayloadField(key=path))
    unmarked = models.Filter(must=[is_encoded, absent])
    gap = stored.encoded - stored.projected
    return [path, models.MultExpression(mult=[gap, unmarked])]


def _expression(situation: Situation, part: Part) -> models.Expression:
    """Write `old * $score[0] + new * $score[1] + offset`."""
    weights = (part.old * situation.old.sign, part.new * situation.new.sign)
    terms: list[models.Expression] = [
        models.MultExpression(mult=[float(weight), f"$score[{place}]"])
        for place, weight in enumerate(weights)
        if weight
    ]
    if part.offset or not terms:
        terms.append(float(part.offset))
    return models.SumExpression(sum=terms)
