"""Qdrant: reading points in pages whose end is only ever an explicit one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from qdrant_client import models

from xbtmigrate.qdrant.connection import Connection
from xbtmigrate.qdrant.records import Record, point_id_of, stored_id
from xbtmigrate.types import PointId

_PAGE_BYTES = 16 * 2**20

Wanted: TypeAlias = bool | list[str]
"""Payload keys or vector names to read: all, none or these."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads one collection.

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
    ) -> Iterator[list[Record]]:
        """Yield all points in id order, behind `after`; pages shrink where payloads are large."""
        offset = None if after is None else stored_id(after)
        limit = self.page
        while True:
            records, following = self._page(offset, limit, payload, vectors)
            limit = self._fitting(records)
            # A page begins with its offset, and the caller already has that point.
            fresh = [each for each in records if point_id_of(each) != after]
            if fresh:
                yield fresh
            if following is None:
                return
            offset = following

    def retrieve(
        self,
        ids: Sequence[PointId],
        *,
        payload: Wanted = False,
        vectors: Wanted = False,
    ) -> list[Record]:
        """Return at most one page of points in the order of `ids`, without the absent ones."""
        found = self.connection.call(
            lambda: self.connection.client.retrieve(
                self.collection,
                [stored_id(each) for each in ids],
                with_payload=payload,
                with_vectors=vectors,
            )
        )
        by_id = {point_id_of(record): record for record in found}
        return [by_id[each] for each in ids if each in by_id]

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
        return {point_id_of(record) for record in records}

    def count(self, condition: models.Filter | None = None) -> int:
        """Count exactly."""
        return self.connection.call(
            lambda: self.connection.client.count(
                self.collection, count_filter=condition, exact=True
            )
        ).count

    def _page(
        self,
        offset: int | str | None,
        limit: int,
        payload: Wanted,
        vectors: Wanted,
    ) -> tuple[list[Record], int | str | None]:
        records, following = self.connection.call(
            lambda: self.connection.client.scroll(
                self.collection,
                limit=limit,
                offset=offset,
                with_payload=payload,
                with_vectors=vectors,
            )
        )
        return records, following  # type: ignore[return-value]

    def _fitting(self, records: Sequence[Record]) -> int:
        """Return how many points like these fit into the memory meant for one page."""
        sizes = [
            sum(len(value) for value in (record.payload or {}).values() if isinstance(value, str))
            for record in records
        ]
        mean = max(sum(sizes) // max(len(sizes), 1), 1)
        return max(1, min(self.page, _PAGE_BYTES // mean))
