"""Qdrant: reading points in pages whose end is only ever an explicit one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from qdrant_client import grpc, models

from xbtmigrate.backfill.pipeline import read_ahead
from xbtmigrate.qdrant.wire import grpc_decode
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.grpc import Rpc
from xbtmigrate.qdrant.wire.point_page import (
    Page,
    StoredId,
    Unread,
    page_of_records,
    retrieved,
    scrolled,
    stored_id,
)
from xbtmigrate.types import PointId

_PAGE_BYTES = 16 * 2**20

Wanted: TypeAlias = bool | list[str]
"""Payload keys or vector names to read: all, none or these."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads one collection: vectors over gRPC once that is trusted, else JSON over REST.

    Neither makes a Python float. Whole payloads always come over REST, because gRPC has no
    integers beyond 2^63 - 1.

    Attributes:
        connection: The open Qdrant.
        collection: Real name of the collection.
        page: Points in a page, at most.
        key: Read the points under this shard key alone.
    """

    connection: Connection
    collection: str
    page: int
    key: models.ShardKey | None = None

    def scroll(
        self,
        *,
        payload: Wanted,
        vectors: Wanted,
        after: PointId | None = None,
    ) -> Iterator[Page]:
        """Yield all points in id order, behind `after`; pages shrink where payloads are large.

        The next page is asked for while the last one is taken apart.
        """
        limit = self.page

        def answers() -> Iterator[Unread]:
            offset: StoredId | None = None if after is None else stored_id(after)
            while True:
                unread, offset = self._answer(offset, limit, payload, vectors)
                yield unread
                if offset is None:
                    return

        for number, unread in enumerate(read_ahead(answers())):
            page = unread()
            limit = self._fitting(page)
            if number == 0 and page.ids[:1] == [after]:
                # A page begins with its offset, and the caller already has that point.
                page = page.rows(range(1, len(page)))
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
        native = [stored_id(each) for each in ids]
        found = self.connection.call(lambda: self._retrieve(native, payload, vectors))
        row_of = {point_id: row for row, point_id in enumerate(found.ids)}
        return found.rows([row_of[each] for each in ids if each in row_of])

    def select(
        self,
        ids: Sequence[PointId] | None,
        *,
        after: PointId | None,
        payload: Wanted,
        vectors: Wanted,
    ) -> Iterator[Page]:
        """Yield pages that are not empty: of `ids` in their order, or of all behind `after`."""
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

    def _answer(
        self, offset: StoredId | None, limit: int, payload: Wanted, vectors: Wanted
    ) -> tuple[Unread, StoredId | None]:
        return self.connection.call(lambda: self._scroll(offset, limit, payload, vectors))

    def _scroll(
        self, offset: StoredId | None, limit: int, payload: Wanted, vectors: Wanted
    ) -> tuple[Unread, StoredId | None]:
        rpc, rest = self._rpc(payload, vectors), self.connection.rest
        if rpc is not None:
            request = grpc.ScrollPoints(
                collection_name=self.collection,
                limit=limit,
                offset=None if offset is None else _packed_id(offset),
                **_packed_choice(payload, vectors),
            )
            return grpc_decode.scrolled(rpc.send("Scroll", request.SerializeToString()))
        if rest is not None:
            body = {"limit": limit, "with_payload": payload, "with_vector": vectors}
            asked = body if offset is None else {**body, "offset": offset}
            return scrolled(rest.send("POST", self.collection, "points/scroll", self._keyed(asked)))
        records, following = self.connection.client.scroll(
            self.collection,
            limit=limit,
            offset=offset,
            with_payload=payload,
            with_vectors=vectors,
            shard_key_selector=self.key,
        )
        return partial(page_of_records, records), following  # type: ignore[return-value]

    def _retrieve(self, ids: Sequence[StoredId], payload: Wanted, vectors: Wanted) -> Page:
        rpc, rest = self._rpc(payload, vectors), self.connection.rest
        if rpc is not None:
            request = grpc.GetPoints(
                collection_name=self.collection,
                ids=[_packed_id(each) for each in ids],
                **_packed_choice(payload, vectors),
            )
            return grpc_decode.retrieved(rpc.send("Get", request.SerializeToString()))
        if rest is not None:
            body = {"ids": ids, "with_payload": payload, "with_vector": vectors}
            return retrieved(rest.send("POST", self.collection, "points", self._keyed(body)))
        return page_of_records(
            self.connection.client.retrieve(
                self.collection,
                ids,
                with_payload=payload,
                with_vectors=vectors,
                shard_key_selector=self.key,
            )
        )

    def _keyed(self, body: dict[str, Any]) -> dict[str, Any]:
        return body if self.key is None else {**body, "shard_key": self.key}

    def _rpc(self, payload: Wanted, vectors: Wanted) -> Rpc | None:
        """Return the gRPC interface where it reads the same as REST, and faster."""
        rpc = self.connection.rpc
        same = isinstance(vectors, list) and payload is not True and self.key is None
        return rpc if rpc is not None and rpc.trusted and same else None

    def _fitting(self, page: Page) -> int:
        """Return how many points like these fit into the memory meant for one page."""
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
