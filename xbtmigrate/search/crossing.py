"""Room `search`: an application's own requests, translated for a collection that is migrated.

Generators as everywhere in this room: the wrapped sync and async clients run them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
from qdrant_client import models

from xbtmigrate.errors import UnsupportedError
from xbtmigrate.qdrant.pages import stored_id
from xbtmigrate.qdrant.provenance import PROVENANCE
from xbtmigrate.search.arguments import plain_vector, request_of, turned
from xbtmigrate.search.asking import Ask, Search, Steps, Work, together
from xbtmigrate.search.completing import Completion, Model, point_structs
from xbtmigrate.search.core import Core, Question
from xbtmigrate.search.fusing import Points
from xbtmigrate.search.requests import Wanted, formula_of, scored_in_both
from xbtmigrate.search.situation import Situation
from xbtmigrate.types import Layout

Node = TypeVar("Node", models.QueryRequest, models.Prefetch)

_GROUPED = ("group_size", "with_lookup")


@dataclass(frozen=True, slots=True)
class Crossing:
    """One collection as its application sees it.

    Attributes:
        core: The searcher's.
        collection: Name that the application uses.
        model: The model that the application embeds with.
    """

    core: Core
    collection: str
    model: Model

    def concerns(self, name: str) -> bool:
        """Whether a request for this collection is to be translated."""
        return name == self.collection or name in self.core.situation.names

    @property
    def situation(self) -> Situation:
        """Where the migration stands."""
        return self.core.situation

    @property
    def home(self) -> str:
        """The collection that answers what is not translated."""
        situation = self.situation
        return situation.new.collection if situation.switched else situation.old.collection

    def query(
        self, requests: Sequence[tuple[models.QueryRequest, Mapping[str, Any]]]
    ) -> Steps[list[Points]]:
        """Answer requests as the application would have them answered by one space.

        Args:
            requests: Each with its options, such as a timeout.
        """
        return self.core.attended(
            lambda: together([self._query(request, options) for request, options in requests])
        )

    def _query(self, request: models.QueryRequest, options: Mapping[str, Any]) -> Steps[Points]:
        vector = self._own_vector(request)
        if vector is None:
            searched = Search(self.home, self.rewritten(request), tuple(options.items()))
            [found] = yield [searched]
            return list(found)
        wanted = Wanted(
            limit=10 if request.limit is None else request.limit,
            offset=request.offset or 0,
            filter=request.filter,
            with_payload=request.with_payload,
            with_vectors=self._asked_vectors(request.with_vector),
            score_threshold=request.score_threshold,
            params=request.params,
            shard_key=request.shard_key,
            options=tuple(options.items()),
        )
        [answer] = yield from self.core.answered([self._question(request, vector, wanted)])
        return [self._as_asked(point) for point in answer.points]

    def rewritten(self, node: Node) -> Node:
        """Replace each search of the migrated vector within a larger request."""
        vector = self._own_vector(node)
        if vector is None:
            node = self._turned(node)
            children = node.prefetch if isinstance(node.prefetch, list) else [node.prefetch]
            if node.prefetch is None:
                return node
            below = [self.rewritten(each) for each in children if each is not None]
            return node.model_copy(update={"prefetch": below})
        wanted = Wanted(limit=node.limit or 10, filter=node.filter, params=node.params)
        prepared = self.core.prepare(self._question(node, vector, wanted), within=self.home)
        situation, query = prepared.situation, prepared.query
        if query.old is not None and query.new is not None:
            return node.model_copy(
                update={
                    "prefetch": scored_in_both(situation, query, wanted),
                    "query": formula_of(situation, prepared.mixture),
                    "using": None,
                    "filter": None,
                    "params": None,
                }
            )
        space = situation.new if query.old is None else situation.old
        nearest = models.NearestQuery(nearest=query.old or query.new or [])
        return node.model_copy(update={"query": nearest, "using": space.name or None})

    def _turned(self, node: Node) -> Node:
        """Put the vectors of other queries (diversity, examples) into the one space that answers.

        Raises:
            UnsupportedError: There is no such space for a vector of the new model.
        """
        situation, using = self.situation, node.using or ""
        if node.query is None or using not in (situation.old.name, situation.new.name):
            return node
        together = situation.switched or (situation.covered and situation.layout is Layout.IN_PLACE)

        def turn(vector: list[float]) -> list[float]:
            nonlocal using
            if not self._completion().is_new(node.using or "", len(vector)):
                return vector
            if together:
                using = situation.new.name
                return vector
            if situation.bridge is None:
                raise UnsupportedError(
                    "only a plain search can be answered for a vector of the new model now: "
                    "old vectors answer all others, and there is no bridge to them",
                    "train one with `xbtmigrate train-projector`, or give ids of points",
                )
            [bridged] = situation.bridge.apply(np.asarray([vector], np.float32)).tolist()
            return cast("list[float]", bridged)

        query = turned(node.query, turn)
        return node.model_copy(update={"query": query, "using": using or None})

    def groups(self, group_by: str, given: Mapping[str, Any]) -> Steps[models.GroupsResult]:
        """Group what the mixed gallery answers.

        Args:
            group_by: Payload key.
            given: The other arguments of `query_points_groups`, by name.
        """
        return self.core.attended(lambda: self._groups(group_by, given))

    def _groups(self, group_by: str, given: Mapping[str, Any]) -> Steps[models.GroupsResult]:
        rest = {name: given[name] for name in _GROUPED if name in given}
        asked = {name: value for name, value in given.items() if name not in _GROUPED}
        request, options = request_of((), asked)
        made = self.rewritten(request)
        query = {name: getattr(made, name) for name in ("query", "using", "prefetch")}
        query |= {"query_filter": made.filter, "search_params": made.params}
        merged = {**asked, **rest, **options, **query}
        [found] = yield [lambda client: client.query_points_groups(self.home, group_by, **merged)]
        groups: models.GroupsResult = found
        return groups

    def upsert(self, points: Any, options: Mapping[str, Any]) -> Steps[Any]:
        """Write whole points with both vectors."""
        whole = point_structs(points)
        return (yield from self.core.attended(lambda: self._upsert(whole, options)))

    def _upsert(self, whole: list[models.PointStruct], options: Mapping[str, Any]) -> Steps[Any]:
        [(source, shadow)] = yield [Work(lambda: self._completion().points(whole))]
        asks = [
            _writing("upsert", collection, written, options)
            for collection, written in (
                (self.situation.old.collection, source),
                (self.situation.new.collection, shadow),
            )
            if written
        ]
        return (yield asks)[0] if asks else None

    def update_vectors(
        self, points: Sequence[models.PointVectors], options: Mapping[str, Any]
    ) -> Steps[Any]:
        """Write vectors of existing points, each with its counterpart and mark."""
        return (yield from self.core.attended(lambda: self._update_vectors(points, options)))

    def _update_vectors(
        self, points: Sequence[models.PointVectors], options: Mapping[str, Any]
    ) -> Steps[Any]:
        situation, completion = self.situation, self._completion()
        # A UUID may be written in any form, and is read back in one.
        ids = [stored_id(str(each.id)) for each in points]
        [records] = yield [
            lambda client: client.retrieve(
                self.home,
                ids,
                with_payload=True,
                with_vectors=situation.layout is Layout.SHADOW,
                shard_key_selector=options.get("shard_key_selector"),
            )
        ]
        known = {record.id: record for record in records}
        payloads = [known[each].payload if each in known else None for each in ids]
        [pairs] = yield [Work(lambda: completion.pairs([each.vector for each in points], payloads))]
        if situation.layout is Layout.SHADOW:
            whole = [
                models.PointStruct(
                    id=each,
                    payload=known[each].payload,
                    vector={**_named(known[each].vector), **_named(point.vector)},
                )
                for each, point in zip(ids, points, strict=True)
                if each in known
            ]
            return (yield from self._upsert(whole, options))
        written = [
            models.PointVectors(id=each, vector=completion.vectors_in_place(pair))
            for each, pair in zip(ids, pairs, strict=True)
        ]
        [result] = yield [_writing("update_vectors", self.home, written, options)]
        marks = [
            models.SetPayloadOperation(
                set_payload=models.SetPayload(
                    payload={PROVENANCE: mark},
                    points=[each],
                    shard_key=options.get("shard_key_selector"),
                )
            )
            for each, payload, pair in zip(ids, payloads, pairs, strict=True)
            if (mark := completion.mark(each, payload or {}, pair)) is not None
        ]
        if marks:
            wait = options.get("wait", True)
            yield [lambda client: client.batch_update_points(self.home, marks, wait=wait)]
        return result

    def delete(self, selector: Any, options: Mapping[str, Any]) -> Steps[Any]:
        """Delete points here and in the shadow."""
        return (yield from self.core.attended(lambda: self._delete(selector, options)))

    def _delete(self, selector: Any, options: Mapping[str, Any]) -> Steps[Any]:
        situation = self.situation
        places = {self.home: None}
        if situation.layout is Layout.SHADOW and self._completion().writes_new:
            places |= {situation.new.collection: None}
            if self._completion().writes_old:
                places |= {situation.old.collection: None}
        return (yield [_writing("delete", each, selector, options) for each in places])[0]

    def batch(self, operations: Sequence[Any], options: Mapping[str, Any]) -> Steps[list[Any]]:
        """Run update operations one after the other, each translated by its kind."""
        results = []
        for operation in operations:
            result = yield from self._operation(operation, options)
            results.append(result)
        return results

    def _operation(self, operation: Any, options: Mapping[str, Any]) -> Steps[Any]:
        if isinstance(operation, models.UpsertOperation):
            content: Any = operation.upsert
            points = content.batch if isinstance(content, models.PointsBatch) else content.points
            return (yield from self.upsert(points, _with_key(options, content.shard_key)))
        if isinstance(operation, models.UpdateVectorsOperation):
            update = operation.update_vectors
            keyed = _with_key(options, update.shard_key)
            return (yield from self.update_vectors(update.points, keyed))
        if isinstance(operation, models.DeleteOperation):
            keyed = _with_key(options, operation.delete.shard_key)
            return (yield from self.delete(operation.delete, keyed))
        [[result]] = yield [
            lambda client: client.batch_update_points(self.home, [operation], **options)
        ]
        return result

    def passed(self, method: str, args: Sequence[Any], named: Mapping[str, Any]) -> Steps[Any]:
        """Call a method of the client for the collection that answers what is not translated."""

        def call() -> Steps[Any]:
            [found] = yield [lambda client: getattr(client, method)(self.home, *args, **named)]
            return found

        return self.core.attended(call)

    def described(self, info: models.CollectionInfo) -> models.CollectionInfo:
        """Describe the collection as the application's model finds it: the migrated vector new."""
        if self.model == "old":
            return info
        info = info.model_copy(deep=True)
        vectors = info.config.params.vectors
        old, new = self.situation.old, self.situation.new
        params = vectors.get(old.name) if isinstance(vectors, dict) else vectors
        if params is not None:
            params.size, params.distance = new.size, models.Distance(new.distance.value)
        return info

    def _completion(self) -> Completion:
        return Completion(self.situation, self.core.encoders, self.model)

    def _own_vector(self, node: models.QueryRequest | models.Prefetch) -> list[float] | None:
        """The vector of a plain search of the migrated vector; None for anything else."""
        own = {self.situation.old.name, self.situation.new.name}
        if (node.using or "") not in own or node.prefetch or node.lookup_from:
            return None
        return plain_vector(node.query)

    def _question(
        self, node: models.QueryRequest | models.Prefetch, vector: list[float], wanted: Wanted
    ) -> Question:
        if self._completion().is_new(node.using or "", len(vector)):
            return Question(vector=vector, wanted=wanted)
        return Question(old_vector=vector, wanted=wanted)

    def _asked_vectors(self, asked: Any) -> Any:
        """The selector that also brings the vector which the application will see as its own."""
        old, new = self.situation.old.name, self.situation.new.name
        if self.model == "new" and isinstance(asked, list) and old in asked and new not in asked:
            return [*asked, new] if self.situation.layout is Layout.IN_PLACE else asked
        return False if asked is None else asked

    def _as_asked(self, point: models.ScoredPoint) -> models.ScoredPoint:
        """Show a point's vector as one of the application's model."""
        if self.model == "old" or not point.vector:
            return point
        old, new = self.situation.old, self.situation.new
        vectors = _named(point.vector)
        shown = vectors.get(new.name) if new.name != old.name else None
        if shown is None and self.situation.forward is not None and old.name in vectors:
            known = np.asarray([vectors[old.name]], np.float32)
            if known.shape[1] == self.situation.forward.d_in and not self.situation.forward.d_side:
                shown = self.situation.forward.apply(known)[0].tolist()
        if shown is None:
            return point
        if not isinstance(point.vector, Mapping):
            return point.model_copy(update={"vector": shown})
        return point.model_copy(update={"vector": {**vectors, old.name: shown}})


def _named(vector: Any) -> dict[str, Any]:
    if vector is None:
        return {}
    return dict(vector) if isinstance(vector, Mapping) else {"": vector}


def _writing(method: str, collection: str, content: Any, options: Mapping[str, Any]) -> Ask:
    return lambda client: getattr(client, method)(collection, content, **options)


def _with_key(options: Mapping[str, Any], key: Any) -> dict[str, Any]:
    return {**options, "shard_key_selector": key} if key is not None else dict(options)
