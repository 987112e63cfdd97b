"""Room `search`: both spaces asked one after the other, and fused here.

For servers that know no formulas, the embedded mode, and shadows: two collections answer no common
request. It scores the same points as the one request does, and gives the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qdrant_client import models

from xbtmigrate.qdrant.gallery.provenance import PLAN_LENGTH, PROVENANCE
from xbtmigrate.scoring.mixture import Mixture, State
from xbtmigrate.serving.round_trips import Ask, Steps
from xbtmigrate.serving.server_fusion import QueryVectors, Wanted, in_one_space
from xbtmigrate.serving.state import Situation, Space
from xbtmigrate.types import Kind, Layout

Points = list[models.ScoredPoint]


@dataclass(frozen=True, slots=True)
class _Side:
    """One space and the query in it."""

    space: Space
    vector: list[float]
    marks: bool | list[str]


def fused_here(
    situation: Situation, mixture: Mixture, query: QueryVectors, wanted: Wanted
) -> Steps[Points]:
    """Ask both spaces, score what only one of them found in the other, and fuse.

    Returns:
        The points wanted, best first; equal scores go by id.
    """
    old = _Side(situation.old, query.old or [], marks=False)
    new = _Side(situation.new, query.new or [], marks=[PROVENANCE])
    near = replace(wanted, limit=wanted.depth, offset=0, score_threshold=None, with_vectors=False)
    scores: list[dict[Any, models.ScoredPoint]] = [{}, {}]
    for found, points in zip(
        scores, (yield [_nearest(old, near), _nearest(new, near)]), strict=True
    ):
        found.update((point.id, point) for point in points)
    asks, places = [], []
    for place, (side, other) in enumerate(((old, 1), (new, 0))):
        missing = [each for each in scores[other] if each not in scores[place]]
        if missing:
            asks.append(_nearest(side, _among(near, missing)))
            places.append(place)
    for place, points in zip(places, (yield asks) if asks else [], strict=True):
        scores[place].update((point.id, point) for point in points)
    ranked = _ranked(situation, mixture, scores[0], scores[1])
    least = wanted.score_threshold
    page = [each for each in ranked if least is None or each[1] >= least]
    page = page[wanted.offset : wanted.offset + wanted.limit]
    return (yield from _filled(situation, page, wanted))


def _nearest(side: _Side, wanted: Wanted) -> Ask:
    return in_one_space(side.space, side.vector, replace(wanted, with_payload=side.marks))


def _among(wanted: Wanted, ids: Sequence[Any]) -> Wanted:
    """Restrict a search to some points that pass its filter."""
    must: list[models.Condition] = [models.HasIdCondition(has_id=list(ids))]
    if wanted.filter is not None:
        must.append(wanted.filter)
    return replace(wanted, filter=models.Filter(must=must), limit=len(ids))


def _ranked(
    situation: Situation,
    mixture: Mixture,
    old: Mapping[Any, models.ScoredPoint],
    new: Mapping[Any, models.ScoredPoint],
) -> list[tuple[Any, float]]:
    """Score every point found and sort.

    A point of a shadow that the source did not return has been deleted there, or its payload no
    longer passes the filter.
    """
    ids = set(old) if situation.layout is Layout.SHADOW else set(old) | set(new)
    scored = [(each, _score(situation, mixture, old.get(each), new.get(each))) for each in ids]
    return sorted(scored, key=lambda pair: (-pair[1], isinstance(pair[0], str), pair[0]))


def _score(
    situation: Situation,
    mixture: Mixture,
    old: models.ScoredPoint | None,
    new: models.ScoredPoint | None,
) -> float:
    mark = ((new.payload or {}).get(PROVENANCE) or {}) if new else {}
    state = State.WAITING if new is None else State.PROJECTED
    if mark.get("kind") == Kind.ENCODED and mark.get("plan") == situation.plan.digest[:PLAN_LENGTH]:
        state = State.ENCODED
    part = mixture.parts[state]
    total = part.offset
    if old is not None:
        total += part.old * situation.old.sign * old.score
    if new is not None:
        total += part.new * situation.new.sign * new.score
    stored = situation.hubness
    if mixture.hubness and stored is not None:
        mean = stored.encoded if state is State.ENCODED else stored.projected
        total += mark.get(stored.key, mean)
    return float(total)


def _filled(
    situation: Situation, page: Sequence[tuple[Any, float]], wanted: Wanted
) -> Steps[Points]:
    """Fetch payload and vectors of the points on the page; one that vanished is left out."""
    records: dict[Any, models.Record] = {}
    asks_more = wanted.with_payload is not False or wanted.with_vectors is not False
    if page and asks_more:
        [found] = yield [
            lambda client: client.retrieve(
                situation.old.collection,
                [each for each, _ in page],
                with_payload=wanted.with_payload,
                with_vectors=wanted.with_vectors,
                shard_key_selector=wanted.shard_key,
            )
        ]
        records = {record.id: record for record in found}
    return [
        models.ScoredPoint(
            id=each,
            version=0,
            score=score,
            payload=records[each].payload if asks_more else None,
            vector=records[each].vector if asks_more else None,
        )
        for each, score in page
        if each in records or not asks_more
    ]
