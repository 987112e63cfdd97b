"""Send an application's writes to both spaces of a migrating collection.

Upserts, vector updates and deletes reach the old and the new vectors, with provenance, so that the
backfill need not process these points again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qdrant_client import models

from xbtmigrate.qdrant.gallery.provenance import PROVENANCE
from xbtmigrate.qdrant.wire.points import stored_id
from xbtmigrate.serving.dual_write import Pair
from xbtmigrate.serving.round_trips import Computation, Procedure, write_call
from xbtmigrate.serving.translate import RequestTranslator
from xbtmigrate.types import Layout

_OF_A_WRITE = ("wait", "ordering", "timeout")
"""Options of a write that apply to its marks as well."""


@dataclass(frozen=True, slots=True)
class WriteTranslator:
    """Translates the writes to one collection.

    Attributes:
        requests: The translator of all other requests to it.
    """

    requests: RequestTranslator

    def upsert(self, points: Any, options: Mapping[str, Any]) -> Procedure[Any]:
        """Write whole points with both vectors."""
        whole = point_structs(points)
        return (yield from self.requests.core.with_retry(lambda: self._upsert(whole, options)))

    def _upsert(
        self, whole: list[models.PointStruct], options: Mapping[str, Any]
    ) -> Procedure[Any]:
        # Completing a point may embed it, which would block an event loop.
        [(source, shadow)] = yield [
            Computation(lambda: self.requests.completer.complete_points(whole))
        ]
        # Both collections at once; the application gets the answer of the source.
        requests = [
            write_call("upsert", collection, written, options)
            for collection, written in (
                (self.requests.state.old.collection, source),
                (self.requests.state.new.collection, shadow),
            )
            if written
        ]
        return (yield requests)[0] if requests else None

    def update_vectors(
        self, points: Sequence[models.PointVectors], options: Mapping[str, Any]
    ) -> Procedure[Any]:
        """Write vectors of existing points in both spaces, with their marks."""
        return (
            yield from self.requests.core.with_retry(lambda: self._update_vectors(points, options))
        )

    def _update_vectors(
        self, points: Sequence[models.PointVectors], options: Mapping[str, Any]
    ) -> Procedure[Any]:
        state, completer = self.requests.state, self.requests.completer
        # A UUID may be written in any form, and is returned in one.
        ids = [stored_id(str(each.id)) for each in points]
        [records] = yield [
            lambda client: client.retrieve(
                self.requests.home,
                ids,
                with_payload=True,
                with_vectors=state.layout is Layout.SHADOW,
                shard_key_selector=options.get("shard_key_selector"),
            )
        ]
        # The content to embed and to hash comes from the stored payload: an update has none.
        known = {record.id: record for record in records}
        payloads = [known[each].payload if each in known else None for each in ids]
        [pairs] = yield [
            Computation(
                lambda: completer.complete_pairs([each.vector for each in points], payloads)
            )
        ]
        if state.layout is Layout.SHADOW:
            # The shadow may not hold the point yet, and an update cannot create it: write the
            # whole point to both collections.
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
        return (yield from self._update_in_place(ids, payloads, pairs, options))

    def _update_in_place(
        self,
        ids: Sequence[Any],
        payloads: Sequence[Mapping[str, Any] | None],
        pairs: Sequence[Pair],
        options: Mapping[str, Any],
    ) -> Procedure[Any]:
        """Write both vectors of existing points, then their marks."""
        completer = self.requests.completer
        written = [
            models.PointVectors(id=each, vector=completer.vectors_in_place(pair))
            for each, pair in zip(ids, pairs, strict=True)
        ]
        [result] = yield [write_call("update_vectors", self.requests.home, written, options)]
        # Vectors first: a mark names its vector by a sketch, so a crash in between leaves a mark
        # that does not match, and the next sweep does the point again.
        marks = [
            models.SetPayloadOperation(
                set_payload=models.SetPayload(
                    payload={PROVENANCE: mark},
                    points=[each],
                    shard_key=options.get("shard_key_selector"),
                )
            )
            for each, payload, pair in zip(ids, payloads, pairs, strict=True)
            if (mark := completer.mark(each, payload or {}, pair)) is not None
        ]
        if marks:
            # With the same ordering: replicas must not apply the mark of an earlier vector last.
            same = {name: options[name] for name in _OF_A_WRITE if name in options}
            yield [write_call("batch_update_points", self.requests.home, marks, same)]
        return result

    def delete(self, selector: Any, options: Mapping[str, Any]) -> Procedure[Any]:
        """Delete points, in a shadow too."""
        return (yield from self.requests.core.with_retry(lambda: self._delete(selector, options)))

    def _delete(self, selector: Any, options: Mapping[str, Any]) -> Procedure[Any]:
        state = self.requests.state
        # A dict keeps the order and drops a duplicate collection. The one in use comes
        # first: its answer is the one the application gets.
        places = {self.requests.home: None}
        if state.layout is Layout.SHADOW and self.requests.completer.writes_new:
            places |= {state.new.collection: None}
            if self.requests.completer.writes_old:
                places |= {state.old.collection: None}
        return (yield [write_call("delete", each, selector, options) for each in places])[0]

    def batch_update(
        self, operations: Sequence[Any], options: Mapping[str, Any]
    ) -> Procedure[list[Any]]:
        """Run update operations in sequence, each translated by its kind."""
        results = []
        # Not in parallel: Qdrant applies a batch in its order, and later operations may rely on it.
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
            names = self.requests.view.stored_names(operation.delete_vectors.vector)
            deleted = operation.delete_vectors.model_copy(update={"vector": names})
            operation = operation.model_copy(update={"delete_vectors": deleted})
        # Payload operations go only to the collection in use; the next sweep updates a shadow.
        [[result]] = yield [
            lambda client: client.batch_update_points(self.requests.home, [operation], **options)
        ]
        return result


def point_structs(points: Any) -> list[models.PointStruct]:
    """Turn both forms of an upsert into points."""
    if not isinstance(points, models.Batch):
        return [
            each if isinstance(each, models.PointStruct) else models.PointStruct(**each)
            for each in points
        ]
    payloads: Sequence[Any] = points.payloads or [None] * len(points.ids)
    vectors: Any = points.vectors
    if isinstance(vectors, Mapping):
        columns = [[(name, value) for value in values] for name, values in vectors.items()]
        vectors = [dict(row) for row in zip(*columns, strict=True)]
    return [
        models.PointStruct(id=point, vector=vector, payload=payload)
        for point, vector, payload in zip(points.ids, vectors, payloads, strict=True)
    ]


def _named(vector: Any) -> dict[str, Any]:
    if vector is None:
        return {}
    return dict(vector) if isinstance(vector, Mapping) else {"": vector}


def _with_key(options: Mapping[str, Any], key: Any) -> dict[str, Any]:
    return {**options, "shard_key_selector": key} if key is not None else dict(options)
