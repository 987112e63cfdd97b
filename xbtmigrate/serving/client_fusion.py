"""Fuse both spaces in the client, if the server cannot do it in one request.

For servers without formulas, the embedded mode, and shadows, whose two collections cannot be
searched in one request. It scores the same points as that request and gives the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qdrant_client import models

from xbtmigrate.qdrant.gallery.provenance import PLAN_LENGTH, PROVENANCE
from xbtmigrate.scoring.mixture import State
from xbtmigrate.serving.round_trips import Procedure, Request
from xbtmigrate.serving.server_fusion import PreparedQuery, SearchOptions, search_one_space
from xbtmigrate.serving.space import ServingSpace
from xbtmigrate.types import Kind, Layout

Points = list[models.ScoredPoint]


@dataclass(frozen=True, slots=True)
class _SpaceQuery:
    """One space and the query in it."""

    space: ServingSpace
    vector: list[float]
    with_payload: bool | list[str]

    def nearest(self, options: SearchOptions) -> Request:
        """Make the request for the nearest points."""
        options = replace(options, with_payload=self.with_payload)
        return search_one_space(self.space, self.vector, options)


def fuse_here(query: PreparedQuery) -> Procedure[Points]:
    """Search both spaces, score each one's points in the other, and fuse.

    Returns:
        The points of the page, best first; equal scores go by id.
    """
    state, options = query.state, query.options
    old = _SpaceQuery(state.old, query.old or [], with_payload=False)
    new = _SpaceQuery(state.new, query.new or [], with_payload=[PROVENANCE])
    # Paging and threshold apply to fused scores, so neither may cut the candidates of one space.
    # Their payload is left out too, except the mark: `_fill` fetches it for one page only.
    near = replace(options, limit=options.depth, offset=0, score_threshold=None, with_vectors=False)
    scores: list[dict[Any, models.ScoredPoint]] = [{}, {}]
    answers = yield [old.nearest(near), new.nearest(near)]
    for found, points in zip(scores, answers, strict=True):
        found.update((point.id, point) for point in points)
    # A point that only one space found needs its score in the other one too: by id, with
    # the same filter, so that the answer is the one of the server's formula.
    requests, places = [], []
    for place, (side, other) in enumerate(((old, 1), (new, 0))):
        missing = [each for each in scores[other] if each not in scores[place]]
        if missing:
            requests.append(side.nearest(_among(near, missing)))
            places.append(place)
    for place, points in zip(places, (yield requests) if requests else [], strict=True):
        scores[place].update((point.id, point) for point in points)
    ranked = _rank(query, scores[0], scores[1])
    least = options.score_threshold
    page = [each for each in ranked if least is None or each[1] >= least]
    page = page[options.offset : options.offset + options.limit]
    return (yield from _fill(state.old.collection, page, options))


def _among(options: SearchOptions, ids: Sequence[Any]) -> SearchOptions:
    """Restrict a search to some points that pass its filter."""
    must: list[models.Condition] = [models.HasIdCondition(has_id=list(ids))]
    if options.filter is not None:
        must.append(options.filter)
    return replace(options, filter=models.Filter(must=must), limit=len(ids))


def _rank(
    query: PreparedQuery,
    old: Mapping[Any, models.ScoredPoint],
    new: Mapping[Any, models.ScoredPoint],
) -> list[tuple[Any, float]]:
    """Score every candidate and sort."""
    # A point of a shadow that the source did not return was deleted there, or its payload no
    # longer passes the filter.
    ids = set(old) if query.state.layout is Layout.SHADOW else set(old) | set(new)
    scored = [(each, _score(query, old.get(each), new.get(each))) for each in ids]
    return sorted(scored, key=lambda pair: (-pair[1], isinstance(pair[0], str), pair[0]))


def _score(
    query: PreparedQuery, old: models.ScoredPoint | None, new: models.ScoredPoint | None
) -> float:
    state, mixture = query.state, query.serving.mixture
    mark = ((new.payload or {}).get(PROVENANCE) or {}) if new else {}
    held = State.WAITING if new is None else State.PROJECTED
    if mark.get("kind") == Kind.ENCODED and mark.get("plan") == state.plan.digest[:PLAN_LENGTH]:
        held = State.ENCODED
    part = mixture.parts[held]
    # The same sum as `FormulaBuilder.build` has the server compute.
    total = part.offset
    if old is not None:
        total += part.old * state.old.sign * old.score
    if new is not None:
        total += part.new * state.new.sign * new.score
    stored = state.hubness
    if mixture.hubness and stored is not None:
        mean = stored.encoded if held is State.ENCODED else stored.projected
        total += mark.get(stored.key, mean)
    return float(total)


def _fill(
    collection: str, page: Sequence[tuple[Any, float]], options: SearchOptions
) -> Procedure[Points]:
    """Fetch payload and vectors of the points on the page; skips deleted ones."""
    records: dict[Any, models.Record] = {}
    with_content = options.with_payload is not False or options.with_vectors is not False
    if page and with_content:
        [found] = yield [
            lambda client: client.retrieve(
                collection,
                [each for each, _ in page],
                with_payload=options.with_payload,
                with_vectors=options.with_vectors,
                shard_key_selector=options.shard_key,
            )
        ]
        records = {record.id: record for record in found}
    return [
        models.ScoredPoint(
            id=each,
            version=0,
            score=score,
            payload=records[each].payload if with_content else None,
            vector=records[each].vector if with_content else None,
        )
        for each, score in page
        if each in records or not with_content
    ]
