"""Read points in pages over the fastest interface; a scroll ends only when the server says so."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, cast

import numpy as np
import simdjson
from qdrant_client import grpc, models

from xbtmigrate.backfill.pipeline import read_ahead
from xbtmigrate.qdrant.wire import protobuf
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.points import (
    Page,
    Sparse,
    StoredId,
    Unread,
    Vector,
    keep_finite,
    stored_id,
)
from xbtmigrate.qdrant.wire.transport import Rpc
from xbtmigrate.types import PointId, Vectors

# Payload text meant for one page: images as data URIs can take megabytes a point.
_PAGE_BYTES = 16 * 2**20

LISTED = 4096
"""Ids in one listing of a large collection, which takes as long as one of few."""

Wanted: TypeAlias = bool | list[str]
"""Payload keys or vector names to read: all, none, or these."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads one collection: vectors over gRPC once its port is verified, else JSON over REST.

    Neither creates Python floats. Whole payloads always come over REST, because gRPC has no
    integers beyond 2^63 - 1.

    Attributes:
        connection: The open Qdrant.
        collection: Real name of the collection.
        page: Points in a page, at most.
        key: Read the points under this shard key alone.
        listed: Ids in one listing, at most; None for as many as points in a page.
    """

    connection: Connection
    collection: str
    page: int
    key: models.ShardKey | None = None
    listed: int | None = None

    def scroll(
        self,
        *,
        payload: Wanted,
        vectors: Wanted,
        after: PointId | None = None,
    ) -> Iterator[Page]:
        """Yield all points in id order, starting behind `after`; large payloads get small pages.

        Ids are listed first, many in a request, and the points are then read by id: while its
        optimizer works, a server takes up to a second for each listing of a large collection,
        however short it is, and milliseconds for points by id (docs/benchmarks-data-path.md). The
        next page is requested while the last one is parsed.
        """
        limit, wanted = self.page, bool(payload or vectors)

        def answers() -> Iterator[Unread]:
            for listed in self._list(after):
                start = 0
                while start < len(listed):
                    rows = range(start, min(start + limit, len(listed)))
                    start = rows.stop
                    if wanted:
                        yield self._read(listed.ids[rows.start : rows.stop], payload, vectors)
                    else:
                        yield partial(listed.rows, rows)

        for unread in read_ahead(answers()):
            page = unread()
            # The page that is being fetched still has the earlier limit.
            limit = self._fitting(page)
            if len(page):
                yield page

    def retrieve(
        self,
        ids: Sequence[PointId],
        *,
        payload: Wanted = False,
        vectors: Wanted = False,
    ) -> Page:
        """Return at most one page of points in the order of `ids`, without the absent ones."""
        return self._read(ids, payload, vectors)()

    def select(
        self,
        ids: Sequence[PointId] | None,
        *,
        after: PointId | None,
        payload: Wanted,
        vectors: Wanted,
    ) -> Iterator[Page]:
        """Yield non-empty pages, of `ids` in their order or of all points behind `after`."""
        if ids is None:
            pages = self.scroll(payload=payload, vectors=vectors, after=after)
        else:
            parts = self.pages_of(ids)
            pages = (self.retrieve(part, payload=payload, vectors=vectors) for part in parts)
        yield from (page for page in pages if len(page))

    def pages_of(self, ids: Sequence[PointId]) -> Iterator[Sequence[PointId]]:
        """Split ids into pages."""
        for start in range(0, len(ids), self.page):
            yield ids[start : start + self.page]

    def count(self, condition: models.Filter | None = None) -> int:
        """Count exactly."""
        return self.connection.call(
            lambda: self.connection.client.count(
                self.collection, count_filter=condition, exact=True
            )
        ).count

    def count_with_vector(self, name: str) -> int:
        """Count exactly the points that have this vector, whoever wrote it."""
        present = models.HasVectorCondition(has_vector=name)
        return self.count(models.Filter(must=[present]))

    def count_values(
        self, field: str, condition: models.Filter | None, most: int
    ) -> dict[str, int]:
        """Count exactly the points with each value of an indexed payload field.

        Args:
            field: The field.
            condition: Count only these points; None for all.
            most: Values at most: those of the most points.

        Returns:
            Value, an integer as its digits -> points, the most first.
        """
        found = self.connection.call(
            lambda: self.connection.client.facet(
                self.collection, field, facet_filter=condition, limit=most, exact=True
            )
        )
        return {str(hit.value): hit.count for hit in found.hits}

    def _list(self, after: PointId | None) -> Iterator[Page]:
        """Yield the points behind `after` without their contents."""
        offset: StoredId | None = None if after is None else stored_id(after)
        while True:
            page, offset = self._scroll(offset)
            # A listing begins with its offset, and the caller already has that point.
            yield page.rows(range(1, len(page))) if page.ids[:1] == [after] else page
            # Only an explicit null ends a scroll, never an error or a short page (docs/safety.md).
            if offset is None:
                return

    def _scroll(self, offset: StoredId | None) -> tuple[Page, StoredId | None]:
        rest, client, limit = self.connection.rest, self.connection.client, self.listed or self.page
        if rest is not None:
            body = {"limit": limit, "with_payload": False, "with_vector": False}
            asked = self._keyed(body if offset is None else {**body, "offset": offset})
            return self.connection.call(
                lambda: parse_scroll(rest.send("POST", self.collection, "points/scroll", asked))
            )
        records, following = self.connection.call(
            lambda: client.scroll(
                self.collection,
                limit=limit,
                offset=offset,
                with_payload=False,
                shard_key_selector=self.key,
            )
        )
        return parse_records(records), following  # type: ignore[return-value]

    def _read(self, ids: Sequence[PointId], payload: Wanted, vectors: Wanted) -> Unread:
        """Request points by id, in the order of `ids` and without the absent ones."""
        native = [stored_id(each) for each in ids]
        unread = self.connection.call(lambda: self._retrieve(native, payload, vectors))

        def parse() -> Page:
            found = unread()
            if found.ids == ids:
                return found
            # A server does not promise to return points in the order of the request.
            row_of = {point_id: row for row, point_id in enumerate(found.ids)}
            return found.rows([row_of[each] for each in ids if each in row_of])

        return parse

    def _retrieve(self, ids: Sequence[StoredId], payload: Wanted, vectors: Wanted) -> Unread:
        rpc, rest = self._rpc(payload, vectors), self.connection.rest
        if rpc is not None:
            request = grpc.GetPoints(
                collection_name=self.collection,
                ids=[_packed_id(each) for each in ids],
                **_packed_choice(payload, vectors),
            )
            return protobuf.parse_points(rpc.send("Get", request.SerializeToString()))
        if rest is not None:
            body = {"ids": ids, "with_payload": payload, "with_vector": vectors}
            return parse_points(rest.send("POST", self.collection, "points", self._keyed(body)))
        records = self.connection.client.retrieve(
            self.collection,
            ids,
            with_payload=payload,
            with_vectors=vectors,
            shard_key_selector=self.key,
        )
        return partial(parse_records, records)

    def _keyed(self, body: dict[str, Any]) -> dict[str, Any]:
        return body if self.key is None else {**body, "shard_key": self.key}

    def _rpc(self, payload: Wanted, vectors: Wanted) -> Rpc | None:
        """Return the gRPC interface if it reads the same as REST, and faster."""
        rpc = self.connection.rpc
        # gRPC is faster for vectors alone, and whole payloads may hold integers that it cannot
        # carry.
        same = isinstance(vectors, list) and payload is not True and self.key is None
        return rpc if rpc is not None and rpc.trusted and same else None

    def _fitting(self, page: Page) -> int:
        """Return how many points like these fit into the memory for one page."""
        # An estimate: only top-level strings are counted, where long texts and data URIs are.
        sizes = [
            sum(len(value) for value in payload.values() if isinstance(value, str))
            for payload in page.payloads
        ]
        mean = max(sum(sizes) // max(len(sizes), 1), 1)
        return max(1, min(self.page, _PAGE_BYTES // mean))


def _packed_id(stored: StoredId) -> grpc.PointId:
    return grpc.PointId(num=stored) if isinstance(stored, int) else grpc.PointId(uuid=stored)


def _packed_choice(payload: Wanted, vectors: Wanted) -> dict[str, Any]:
    keys = payload if isinstance(payload, list) else []
    names = vectors if isinstance(vectors, list) else []
    return {
        "with_payload": grpc.WithPayloadSelector(include=grpc.PayloadIncludeSelector(fields=keys)),
        "with_vectors": grpc.WithVectorsSelector(include=grpc.VectorsSelector(names=names)),
    }


def parse_records(records: Sequence[models.Record]) -> Page:
    """Turn the client's records into a page."""
    return Page(
        [str(record.id) for record in records],
        [record.payload or {} for record in records],
        [record.shard_key for record in records],
        keep_finite(map(_vectors_of_record, records)),
    )


def parse_scroll(answer: bytes) -> tuple[Page, StoredId | None]:
    """Parse the answer to a scroll: the points, and where the next page starts.

    Raises:
        JSONDecodeError: It is not the answer of a Qdrant.
    """
    result = _result(answer)
    return _page(result["points"]), cast("StoredId | None", result["next_page_offset"])


def parse_points(answer: bytes) -> Unread:
    """Parse the answer to a request for points by id: they are to be read later.

    Raises:
        JSONDecodeError: It is not the answer of a Qdrant.
    """
    return partial(_page, _result(answer))


def _result(answer: bytes) -> Any:
    try:
        # A parser cannot be reused while a part of its last document is referenced.
        document: Any = simdjson.Parser().parse(answer)
        return document["result"]
    except (ValueError, KeyError, TypeError) as error:
        raise json.JSONDecodeError(str(error), "", 0) from error


def _page(points: Any) -> Page:
    # Looking up a missing key in a parsed object took 5 us, more than all the rest together, so the
    # keys that are there are listed first (docs/benchmarks-data-path.md).
    present = [{key: point[key] for key in point} for point in points]
    payloads = [each.get("payload") for each in present]
    return Page(
        [str(each["id"]) for each in present],
        [{} if payload is None else payload.as_dict() for payload in payloads],
        [each.get("shard_key") for each in present],
        keep_finite(_vectors_of_json(each.get("vector")) for each in present),
    )


def _vectors_of_json(vector: Any) -> dict[str, Vector]:
    if vector is None:
        return {}
    if isinstance(vector, simdjson.Array):
        return {"": _array(vector)}
    # `items` would turn the values into lists.
    return {name: _vector_of_json(vector[name]) for name in vector}


def _vector_of_json(vector: Any) -> Vector:
    if isinstance(vector, simdjson.Array):
        return _array(vector)
    # Buffers of simdjson hold 64-bit numbers.
    indices = np.frombuffer(vector["indices"].as_buffer(of_type="u"), np.uint64)
    return Sparse(indices.astype(np.uint32), _array(vector["values"]))


def _array(numbers: Any) -> Vectors:
    """Convert a JSON array, or an array of equally long ones, to float32 without Python floats."""
    try:
        flat = np.frombuffer(numbers.as_buffer(of_type="d"), np.float64).astype(np.float32)
    except TypeError:
        # A server shows NaN and infinity as null.
        return np.array(numbers.as_list(), np.float32)
    if len(numbers) and isinstance(numbers[0], simdjson.Array):
        return flat.reshape(len(numbers), -1)
    return flat


def _vectors_of_record(record: models.Record) -> dict[str, Vector]:
    vectors = record.vector
    if vectors is None:
        return {}
    named = vectors if isinstance(vectors, Mapping) else {"": vectors}
    return {name: _vector_of_record(each) for name, each in named.items()}


def _vector_of_record(vector: Any) -> Vector:
    if isinstance(vector, models.SparseVector):
        return Sparse(np.array(vector.indices, np.uint32), np.array(vector.values, np.float32))
    return np.array(vector, np.float32)
