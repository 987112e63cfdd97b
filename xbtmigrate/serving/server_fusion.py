"""Turn a query with its vectors into one Qdrant request, over one space or both.

If the server has formulas, one request is enough: each space contributes its nearest points, all of
them are scored in both spaces, and the formula adds up the scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qdrant_client import models

from xbtmigrate.serving.round_trips import Search
from xbtmigrate.serving.space import ServingSpace
from xbtmigrate.serving.state import ActiveServing, ServingState

# Four candidates for each place up to rank 32: a point high in the fused order may be lower in
# either space. Deeper pages keep at least this factor.
MIN_DEPTH = 128
"""Fewest points that each space contributes to a fused answer."""


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """Options of a search, which are passed on to Qdrant.

    Attributes:
        limit: Points to return.
        offset: Points to leave out first.
        filter: Qdrant's filter.
        with_payload: Qdrant's payload selector.
        with_vectors: Qdrant's vector selector.
        score_threshold: Least score, in the scale of the serving.
        params: Qdrant's search parameters, used in both spaces.
        shard_key: Shard keys to search.
        request: Options of the request itself, such as a timeout.
    """

    limit: int = 10
    offset: int = 0
    filter: models.Filter | None = None
    with_payload: Any = True
    with_vectors: Any = False
    score_threshold: float | None = None
    params: models.SearchParams | None = None
    shard_key: models.ShardKeySelector | None = None
    request: tuple[tuple[str, Any], ...] = ()

    @property
    def depth(self) -> int:
        """Points that each space contributes to a fused answer."""
        # It grows in powers of two, so that neighbouring pages rank the same candidates.
        depth = MIN_DEPTH
        while depth < 4 * (self.limit + self.offset):
            depth *= 2
        return depth


@dataclass(frozen=True, slots=True)
class PreparedQuery:
    """A query with its vectors, and the state it was prepared for.

    Attributes:
        state: Where the migration stands.
        serving: The serving that answers.
        old: The query in the old space; None where that space is not searched.
        new: The query in the new space; None where that space is not searched.
        options: What to return; the threshold is in the old model's scale until it is translated.
    """

    state: ServingState
    serving: ActiveServing
    old: list[float] | None
    new: list[float] | None
    options: SearchOptions


def search_one_space(space: ServingSpace, vector: list[float], options: SearchOptions) -> Search:
    """Make the request that searches one space, as an application would without a migration."""
    return Search(
        space.collection,
        models.QueryRequest(
            query=models.NearestQuery(nearest=vector),
            using=space.name or None,
            filter=options.filter,
            params=options.params,
            limit=options.limit,
            offset=options.offset or None,
            score_threshold=options.score_threshold,
            with_payload=options.with_payload,
            with_vector=options.with_vectors,
            shard_key=options.shard_key,
        ),
        options.request,
    )


def search_both_spaces(query: PreparedQuery) -> Search:
    """Make the one request that searches and fuses both spaces of a collection.

    Servers take no score threshold beside a formula: the caller applies it to the answer.
    """
    options = query.options
    return Search(
        query.state.old.collection,
        models.QueryRequest(
            prefetch=prefetch_both(query),
            # No filter here: the prefetches have applied it to every candidate.
            query=query.serving.formula,
            limit=options.limit,
            offset=options.offset or None,
            with_payload=options.with_payload,
            with_vector=options.with_vectors,
            shard_key=options.shard_key,
        ),
        options.request,
    )


def prefetch_both(query: PreparedQuery) -> list[models.Prefetch]:
    """Make the prefetches: the nearest points of either space, scored in both."""
    state, options, depth = query.state, query.options, query.options.depth
    sides = ((state.old, query.old or []), (state.new, query.new or []))
    # 1. The candidates: the nearest points of each space.
    nearest: list[models.Prefetch] = []
    for space, vector in sides:
        near = models.Prefetch(
            query=models.NearestQuery(nearest=vector),
            using=space.name or None,
            filter=options.filter,
            params=options.params,
            limit=depth,
        )
        nearest.append(near)
    # 2. The same candidates scored in each space: otherwise a point that only one space found
    # would count 0 in the other. The order gives `$score[0]` and `$score[1]` of the formula.
    scored: list[models.Prefetch] = []
    for space, vector in sides:
        # It sees only the candidates of both spaces, hence twice the depth.
        both = models.Prefetch(
            prefetch=nearest,
            query=models.NearestQuery(nearest=vector),
            using=space.name or None,
            limit=2 * depth,
        )
        scored.append(both)
    return scored
