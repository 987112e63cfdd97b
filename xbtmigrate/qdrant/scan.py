"""Qdrant: reading points in pages whose end is only ever an explicit one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from qdrant_client import models

from xbtmigrate.qdrant.connection import Connection
from xbtmigrate.qdrant.pages import (
    Page,
    StoredId,
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
    """Reads one collection: over REST without model objects where there is a server.

    Inside the server gRPC is the slower way to read: 3,100 points of 512 numbers a second against
    33,000 (1.16.3, two cores).

    Attributes:
        connection: The open Qdrant.
        collection: Real name of the collection.
        page: Points in a page, at most.
    """

    connection: Connection
    collection: str
    page: int

    def scroll(
        self,
        *,
        payload: Wanted,
        vectors: Wanted,
        after: PointId | None = None,
    ) -> Iterator[Page]:
        """Yield all points in id order, behind `after`; pages shrink where payloads are large."""
        offset: StoredId | None = None if after is None else stored_id(after)
        limit = self.page
        while True:
            page, following = self._page(offset, limit, payload, vectors)
            limit = self._fitting(page)
            if page.ids[:1] == [after]:
                # A page begins with its offset, and the caller already has that point.
                page = page.rows(range(1, len(page)))
            if len(page):
                yield page
            if following is None:
                return
            offset = following

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

    def having(self, ids: Sequence[PointId], vector: str) -> set[PointId]:
        """Return those of at most one page of ids whose points have the named vector."""
        if not ids:
            return set()
        condition = models.Filter(
            must=[
                models.HasIdCondition(has_id=[stored_id(each) for each in ids]),
                models.HasVectorCondition(has_vector=vector),
            ]
        )
        records, _ = self.connection.call(
            lambda: self.connection.client.scroll(
                self.collection,
                scroll_filter=condition,
                limit=len(ids),
                with_payload=False,
                with_vectors=False,
            )
        )
        return {str(record.id) for record in records}

    def count(self, condition: models.Filter | None = None) -> int:
        """Count exactly."""
        return self.connection.call(
            lambda: self.connection.client.count(
                self.collection, count_filter=condition, exact=True
            )
        ).count

    def _page(
        self, offset: StoredId | None, limit: int, payload: Wanted, vectors: Wanted
    ) -> tuple[Page, StoredId | None]:
        return self.connection.call(lambda: self._scroll(offset, limit, payload, vectors))

    def _scroll(
        self, offset: StoredId | None, limit: int, payload: Wanted, vectors: Wanted
    ) -> tuple[Page, StoredId | None]:
        rest = self.connection.rest
        if rest is not None:
            body = {"limit": limit, "with_payload": payload, "with_vector": vectors}
            asked = body if offset is None else {**body, "offset": offset}
            return scrolled(rest.send("POST", self.collection, "points/scroll", asked))
        records, following = self.connection.client.scroll(
            self.collection,
            limit=limit,
            offset=offset,
            with_payload=payload,
            with_vectors=vectors,
        )
        return page_of_records(records), following  # type: ignore[return-value]

    def _retrieve(self, ids: Sequence[StoredId], payload: Wanted, vectors: Wanted) -> Page:
        rest = self.connection.rest
        if rest is not None:
            body = {"ids": ids, "with_payload": payload, "with_vector": vectors}
            return retrieved(rest.send("POST", self.collection, "points", body))
        return page_of_records(
            self.connection.client.retrieve(
                self.collection, ids, with_payload=payload, with_vectors=vectors
            )
        )

    def _fitting(self, page: Page) -> int:
        """Return how many points like these fit into the memory meant for one page."""
        sizes = [
            sum(len(value) for value in payload.values() if isinstance(value, str))
            for payload in page.payloads
        ]
        mean = max(sum(sizes) // max(len(sizes), 1), 1)
        return max(1, min(self.page, _PAGE_BYTES // mean))
