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
from xbtmigrate.qdrant.gallery.provenance import PROVENANCE
from xbtmigrate.qdrant.wire.point_page import stored_id
from xbtmigrate.serving.arguments import plain_vector, request_of, turned
from xbtmigrate.serving.client_fusion import Points
from xbtmigrate.serving.dual_write import Completion, Model, point_structs
from xbtmigrate.serving.engine import Core, Question
from xbtmigrate.serving.present import Presentation
from xbtmigrate.serving.round_trips import Procedure, Search, Work, run_together, write_call
from xbtmigrate.serving.server_fusion import SearchOptions, prefetch_both
from xbtmigrate.serving.state import ServingState
from xbtmigrate.types import Layout

Node = TypeVar("Node", models.QueryRequest, models.Prefetch)

_GROUPED = ("group_size", "with_lookup")


@dataclass(frozen=True, slots=True)
class Crossing:
    """One collection as its application sees it.

    Attributes:
        core: The searcher's.
        collection: Name that the application uses.
        declared: The model that the application embeds with in every phase; None for the old one
            until the cutover and the new one from then on.
    """

    core: Core
    collection: str
    declared: Model | None

    def concerns(self, name: str) -> bool:
        """Whether a request for this collection is to be translated."""
        return name == self.collection or name in self.core.state.names

    @property
    def situation(self) -> ServingState:
        """Where the migration stands."""
        return self.core.state

    @property
    def model(self) -> Model:
        """The model that the application embeds with now."""
        return self.declared or ("old" if self.situation.is_transparent else "new")

    @property
    def shown(self) -> Presentation:
        """The collection as the application knows it."""
        return Presentation(self.situation, self.model)

    @property
    def home(self) -> str:
        """The collection that answers what is not served."""
        return self.shown.collection

    def query(
        self, requests: Sequence[tuple[models.QueryRequest, Mapping[str, Any]]]
    ) -> Procedure[list[Points]]:
        """Answer requests as the application would have them answered by one space.

        Args:
            requests: Each with its options, such as a timeout.
        """
        return self.core.with_retry(
            lambda: run_together([self._query(request, options) for request, options in requests])
        )

    def _query(self, request: models.QueryRequest, options: Mapping[str, Any]) -> Procedure[Points]:
        vector = self._own_vector(request)
        if vector is None:
            made = self.rewritten(request)
            made = made.model_copy(update={"with_vector": self.shown.selector(made.with_vector)})
            searched = Search(self.home, made, tuple(options.items()))
            [found] = yield [searched]
            return [self.shown.point(point) for point in found]
        wanted = SearchOptions(
            limit=10 if request.limit is None else request.limit,
            offset=request.offset or 0,
            filter=request.filter,
            with_payload=request.with_payload,
            with_vectors=self.shown.selector(request.with_vector),
            score_threshold=request.score_threshold,
            params=request.params,
            shard_key=request.shard_key,
            request=tuple(options.items()),
        )
        [answer] = yield from self.core.answer([self._question(request, vector, wanted)])
        return [self.shown.point(point) for point in answer.points]

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
        wanted = SearchOptions(limit=node.limit or 10, filter=node.filter, params=node.params)
        prepared = self.core.prepare(self._question(node, vector, wanted), within=self.home)
        if prepared.old is not None and prepared.new is not None:
            return node.model_copy(
                update={
                    "prefetch": prefetch_both(prepared),
                    "query": prepared.serving.formula,
                    "using": None,
                    "filter": None,
                    "params": None,
                }
            )
        space = self.situation.new if prepared.old is None else self.situation.old
        nearest = models.NearestQuery(nearest=prepared.old or prepared.new or [])
        return node.model_copy(update={"query": nearest, "using": space.name or None})

    def _turned(self, node: Node) -> Node:
        """Put the vectors of other queries (diversity, examples) into the one space that answers.

        Raises:
            UnsupportedError: There is no such space for a vector of the new model.
        """
        situation, using = self.situation, node.using or ""
        if node.query is None or using not in (situation.old.name, situation.new.name):
            return node
        if self.model == "old" and not situation.switched:
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

        using = self.shown.using(using) or ""
        query = turned(node.query, turn)
        return node.model_copy(update={"query": query, "using": using or None})

    def groups(self, group_by: str, given: Mapping[str, Any]) -> Procedure[models.GroupsResult]:
        """Group what the mixed gallery answers.

        Args:
            group_by: Payload key.
            given: The other arguments of `query_points_groups`, by name.
        """
        return self.core.with_retry(lambda: self._groups(group_by, given))

    def _groups(self, group_by: str, given: Mapping[str, Any]) -> Procedure[models.GroupsResult]:
        rest = {name: given[name] for name in _GROUPED if name in given}
        asked = {name: value for name, value in given.items() if name not in _GROUPED}
        request, options = request_of((), asked)
        made = self.rewritten(request)
        query = {name: getattr(made, name) for name in ("query", "using", "prefetch")}
        query |= {"query_filter": made.filter, "search_params": made.params}
        query["with_vectors"] = self.shown.selector(made.with_vector)
        merged = {**asked, **rest, **options, **query}
        [found] = yield [lambda client: client.query_points_groups(self.home, group_by, **merged)]
        groups: models.GroupsResult = self.shown.result(found)
        return groups

    def upsert(self, points: Any, options: Mapping[str, Any]) -> Procedure[Any]:
        """Write whole points with both vectors."""
        whole = point_structs(points)
        return (yield from self.core.with_retry(lambda: self._upsert(whole, options)))

    def _upsert(
        self, whole: list[models.PointStruct], options: Mapping[str, Any]
    ) -> Procedure[Any]:
        [(source, shadow)] = yield [Work(lambda: self._completion().points(whole))]
        asks = [
            write_call("upsert", collection, written, options)
            for collection, written in (
                (self.situation.old.collection, source),
                (self.situation.new.collection, shadow),
            )
            if written
        ]
        return (yield asks)[0] if asks else None

    def update_vectors(
        self, points: Sequence[models.PointVectors], options: Mapping[str, Any]
    ) -> Procedure[Any]:
        """Write vectors of existing points, each with its counterpart and mark."""
        return (yield from self.core.with_retry(lambda: self._update_vectors(points, options)))

    def _update_vectors(
        self, points: Sequence[models.PointVectors], options: Mapping[str, Any]
    ) -> Procedure[Any]:
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
        [result] = yield [write_call("update_vectors", self.home, written, options)]
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

    def delete(self, selector: Any, options: Mapping[str, Any]) -> Procedure[Any]:
        """Delete points here and in the shadow."""
        return (yield from self.core.with_retry(lambda: self._delete(selector, options)))

    def _delete(self, selector: Any, options: Mapping[str, Any]) -> Procedure[Any]:
        situation = self.situation
        places = {self.home: None}
        if situation.layout is Layout.SHADOW and self._completion().writes_new:
            places |= {situation.new.collection: None}
            if self._completion().writes_old:
                places |= {situation.old.collection: None}
        return (yield [write_call("delete", each, selector, options) for each in places])[0]

    def batch(self, operations: Sequence[Any], options: Mapping[str, Any]) -> Procedure[list[Any]]:
        """Run update operations one after the other, each translated by its kind."""
        results = []
        for operation in operations:
            result = yield from self._operation(operation, options)
            results.append(result)
        return results

    def _operation(self, operation: Any, options: Mapping[str, Any]) -> Procedure[Any]:
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
        if isinstance(operation, models.DeleteVectorsOperation):
            names = self.shown.stored_names(operation.delete_vectors.vector)
            deleted = operation.delete_vectors.model_copy(update={"vector": names})
            operation = operation.model_copy(update={"delete_vectors": deleted})
        [[result]] = yield [
            lambda client: client.batch_update_points(self.home, [operation], **options)
        ]
        return result

    def passed(self, method: str, args: Sequence[Any], named: Mapping[str, Any]) -> Procedure[Any]:
        """Call a method of the client for the collection that answers what is not translated."""

        def call() -> Procedure[Any]:
            shown = self.shown
            given = shown.named(method, args, named)
            [found] = yield [lambda client: getattr(client, method)(shown.collection, **given)]
            return shown.result(found)

        return self.core.with_retry(call)

    def listed(self, named: Mapping[str, Any]) -> Procedure[models.CollectionsResponse]:
        """List all collections, this one by the name that the application knows."""

        def call() -> Procedure[models.CollectionsResponse]:
            [found] = yield [lambda client: client.get_collections(**named)]
            return self.shown.listed(found)

        return self.core.with_retry(call)

    def _completion(self) -> Completion:
        return Completion(self.situation, self.core.encoders, self.model)

    def _own_vector(self, node: models.QueryRequest | models.Prefetch) -> list[float] | None:
        """The vector of a plain search of the migrated vector; None for anything else."""
        situation = self.situation
        own = {situation.old.name, *([] if situation.is_transparent else [situation.new.name])}
        if (node.using or "") not in own or node.prefetch or node.lookup_from:
            return None
        return plain_vector(node.query)

    def _question(
        self,
        node: models.QueryRequest | models.Prefetch,
        vector: list[float],
        wanted: SearchOptions,
    ) -> Question:
        if self._completion().is_new(node.using or "", len(vector)):
            return Question(vector=vector, options=wanted)
        return Question(old_vector=vector, options=wanted)


def _named(vector: Any) -> dict[str, Any]:
    if vector is None:
        return {}
    return dict(vector) if isinstance(vector, Mapping) else {"": vector}


def _with_key(options: Mapping[str, Any], key: Any) -> dict[str, Any]:
    return {**options, "shard_key_selector": key} if key is not None else dict(options)
