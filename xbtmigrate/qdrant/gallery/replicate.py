"""Copy late writes from one side of a migration to the other.

A ledger holds the state of both when they were equal. A point that differs from it on one side was
changed there; if it was changed on the other side too, the other side wins, because applications
write there now. So nothing newer is overwritten, nothing deleted comes back, and a pass can be
repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
from qdrant_client import models

from xbtmigrate.migration.point_hashes import LENGTH, PointHashes
from xbtmigrate.qdrant.gallery.in_place import rows_by_key
from xbtmigrate.qdrant.gallery.provenance import PROVENANCE, whole_hash
from xbtmigrate.qdrant.wire.connection import CONDITIONAL_UPSERT, MEDIUM, Connection
from xbtmigrate.qdrant.wire.points import EmbeddedFields, Page, Vector, stored_id
from xbtmigrate.qdrant.wire.reader import Reader
from xbtmigrate.qdrant.wire.writer import Writer, model_of
from xbtmigrate.types import PointId, Vectors, require_usable

Make: TypeAlias = Callable[[Page], Mapping[PointId, Vectors]]
"""Makes vectors for the other side; leaves out points for which none can be made."""

NAMED = 5
"""Most changed points that a message names."""


@dataclass(slots=True)
class CopyResult:
    """Counts and points of one pass.

    Attributes:
        carried: Points written to the other side.
        deleted: Points deleted there.
        kept: Points that were changed on both sides, where the other side's was kept.
        left: Points that were not carried, since no vector for the other side can be made.
        bare: Points that were carried without such a vector.
        changed: Some of the points that had still to be carried, for messages.
    """

    carried: int = 0
    deleted: int = 0
    kept: int = 0
    left: list[PointId] = field(default_factory=list)
    bare: list[PointId] = field(default_factory=list)
    changed: list[PointId] = field(default_factory=list)

    @property
    def changes(self) -> int:
        """Number of points that had to be carried."""
        return self.carried + self.deleted

    def plus(self, later: CopyResult) -> CopyResult:
        """Add a later pass; points left over are those of the later one."""
        return CopyResult(
            self.carried + later.carried,
            self.deleted + later.deleted,
            self.kept + later.kept,
            later.left,
            list(dict.fromkeys([*self.bare, *later.bare])),
            later.changed,
        )

    def note(self, ids: Iterable[PointId]) -> None:
        """Keep some of the points that had to be carried, for messages."""
        self.changed += islice(ids, max(0, NAMED - len(self.changed)))


@dataclass(frozen=True, slots=True)
class Replicator:
    """Carry changes from one side to the other.

    Attributes:
        connection: The open Qdrant.
        origin: Reads the side where applications wrote until now, or still do.
        other: Reads the side that the changes are carried to.
        vector: Name of the other side's own vector, which the origin has not.
        copied: Names of the vectors that both sides have.
        fields: Where the embedded content is.
        ledger: What both sides were; kept up to date.
        make: Makes vectors for the other side.
        complete: Whether points of which none can be made are carried without one.
    """

    connection: Connection
    origin: Reader
    other: Reader
    vector: str
    copied: Sequence[str]
    fields: EmbeddedFields
    ledger: PointHashes
    make: Make
    complete: bool

    def run(self, *, dry: bool = False) -> CopyResult:
        """Read every point once, and carry over those that changed.

        Args:
            dry: Only count, and see what cannot be made.
        """
        done = CopyResult()
        # Deletions last: only a whole scan shows which points of the ledger were deleted.
        gone = self.ledger.without(self._scanned(done, dry=dry))
        for part in self.other.pages_of(gone):
            self._delete(part, done, dry=dry)
        return done

    def _scanned(self, done: CopyResult, *, dry: bool) -> Iterator[list[PointId]]:
        for page in self.origin.scroll(payload=True, vectors=False):
            hashes = _hashes(page)
            known = self.ledger.find(page.ids)
            changed = [
                each for each, was in zip(page.ids, known, strict=True) if hashes[each] != was
            ]
            if changed:
                self._carry(changed, done, dry=dry)
            yield page.ids

    def _carry(self, ids: Sequence[PointId], done: CopyResult, *, dry: bool) -> None:
        """Carry over points of the origin that differ from the ledger."""
        # Read again with vectors: the scan reads none, because few points have changed.
        page = self.origin.retrieve(ids, payload=True, vectors=list(self.copied) or False)
        hashes = _hashes(page)
        before = dict(zip(page.ids, self.ledger.find(page.ids), strict=True))
        present = self.other.retrieve(page.ids, payload=True)
        there, same = _hashes(present), self._same_content(page, present)
        # Equal on both sides already, such as by an earlier pass that was killed.
        alike = {each for each in page.ids if there.get(each) == hashes[each]}
        # Changed on the other side since the ledger: applications write there now, so it wins.
        newer = {each for each in page.ids if each not in alike and there.get(each) != before[each]}
        todo = page.rows([r for r, each in enumerate(page.ids) if each not in alike | newer])
        # If the content is the same on both sides, the vector stays as it is.
        made: dict[PointId, Vectors | None] = {each: None for each in todo.ids if each in same}
        made |= self.make(todo.rows([r for r, each in enumerate(todo.ids) if each not in same]))
        unmade = [each for each in todo.ids if each not in made]
        bare, left = (unmade, []) if self.complete else ([], unmade)
        if not dry:
            # Write, then update the ledger: a crash repeats a page, and finds both sides equal.
            newer |= self._write(todo, made, there, bare)
            self.ledger.set({each: hashes[each] for each in page.ids if each not in left})
        carried = [each for each in (*made, *bare) if each not in newer]
        done.carried += len(carried)
        done.note(carried)
        done.kept += len(newer)
        done.left += left
        done.bare += [each for each in bare if each not in newer]

    def _write(
        self,
        page: Page,
        made: Mapping[PointId, Vectors | None],
        there: Mapping[PointId, str],
        bare: Collection[PointId],
    ) -> set[PointId]:
        """Write points whose other side is still as in `there`; returns the rest."""
        # Making vectors takes time, so the other side is read again just before it is written.
        present = self.other.retrieve(page.ids, payload=True)
        row_of = {point_id: row for row, point_id in enumerate(present.ids)}
        now = _hashes(present)
        newer = set()
        for row, point_id in enumerate(page.ids):
            if point_id not in made and point_id not in bare:
                continue
            vector = made.get(point_id)
            if now.get(point_id) != there.get(point_id):
                newer.add(point_id)
            elif point_id in now:
                # The vector first: after a crash, a point without one is counted, but new content
                # with an old vector would go unnoticed.
                if point_id in bare:
                    self._take_vector(page, row)
                self._replace(page, row, vector, present.payloads[row_of[point_id]])
            else:
                self._insert(page, row, vector)
        return newer

    def _same_content(self, page: Page, other: Page) -> set[PointId]:
        """Return the points whose embedded content is the same on both sides."""
        content = {
            point_id: self.fields.hash_of(payload)
            for point_id, payload in zip(other.ids, other.payloads, strict=True)
        }
        pairs = zip(page.ids, page.payloads, strict=True)
        return {
            each for each, payload in pairs if content.get(each) == self.fields.hash_of(payload)
        }

    def _insert(self, page: Page, row: int, vector: Vectors | None) -> None:
        """Insert a point; if the server can, only if it still does not exist."""
        own = {} if vector is None else {self.vector: vector.tolist()}
        point = models.PointStruct(
            id=stored_id(page.ids[row]),
            vector=self._models(page.vectors[row]) | own,
            payload=_own(page.payloads[row]),
        )
        there = models.Filter(must_not=[models.HasIdCondition(has_id=[point.id])])
        # Older servers leave a short race in which an application's insert may be replaced.
        atomic = self.connection.at_least(CONDITIONAL_UPSERT)
        self.connection.write(
            lambda: self.connection.client.upsert(
                self.other.collection,
                [point],
                wait=True,
                ordering=MEDIUM,
                shard_key_selector=page.shard_keys[row],
                update_filter=there if atomic else None,
            )
        )

    def _replace(
        self, page: Page, row: int, vector: Vectors | None, present: Mapping[str, Any]
    ) -> None:
        """Replace the payload, the shared vectors, and this side's own vector if one was made."""
        client, name, key = self.connection.client, self.other.collection, page.shard_keys[row]
        point, payload = stored_id(page.ids[row]), _own(page.payloads[row])
        vectors = self._models(page.vectors[row])
        if vector is not None:
            vectors[self.vector] = vector.tolist()
        if vectors:
            update = models.PointVectors(id=point, vector=vectors)
            self.connection.write(
                lambda: client.update_vectors(
                    name, [update], wait=True, ordering=MEDIUM, shard_key_selector=key
                )
            )
        if PROVENANCE in present:
            # overwrite_payload replaces all keys; the other side's mark belongs to its own vector.
            payload |= {PROVENANCE: present[PROVENANCE]}
        self.connection.write(
            lambda: client.overwrite_payload(
                name, payload, [point], wait=True, ordering=MEDIUM, shard_key_selector=key
            )
        )

    def _take_vector(self, page: Page, row: int) -> None:
        """Delete the other side's vector of a point, which was made from other content."""
        client, name, key = self.connection.client, self.other.collection, page.shard_keys[row]
        point = models.PointIdsList(points=[stored_id(page.ids[row])])
        self.connection.write(
            lambda: client.delete_vectors(
                name, [self.vector], point, wait=True, ordering=MEDIUM, shard_key_selector=key
            )
        )

    def _delete(self, ids: Sequence[PointId], done: CopyResult, *, dry: bool) -> None:
        """Delete points that are gone from the origin and unchanged on the other side."""
        present = self.other.retrieve(ids, payload=True)
        was = dict(zip(ids, self.ledger.find(ids), strict=True))
        hashes = _hashes(present)
        writer = Writer(self.connection, self.other.collection)
        for row, point_id in enumerate(present.ids):
            # Changed on the other side since the ledger: that side wins here too.
            if hashes[point_id] != was[point_id]:
                done.kept += 1
                continue
            done.deleted += 1
            done.note([point_id])
            if not dry:
                writer.delete([point_id], present.shard_keys[row])
        if not dry:
            self.ledger.set(dict.fromkeys(ids))

    def _models(self, vectors: Mapping[str, Vector]) -> dict[str, Any]:
        return {name: model_of(vectors[name]) for name in self.copied if name in vectors}


def hash_collection(reader: Reader) -> PointHashes:
    """Hash the present payload of every point of a collection."""
    ids: list[PointId] = []
    hashes: list[str] = []
    for page in reader.scroll(payload=True, vectors=False):
        ids += page.ids
        hashes += _hashes(page).values()
    return PointHashes(ids, hashes)


def _hashes(page: Page) -> dict[PointId, str]:
    return {
        point_id: whole_hash(payload)[:LENGTH]
        for point_id, payload in zip(page.ids, page.payloads, strict=True)
    }


def _own(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return a payload without the tool's key."""
    return {key: value for key, value in payload.items() if key != PROVENANCE}


def scroll_without(reader: Reader, vector: str) -> Iterator[list[PointId]]:
    """Yield the points that lack a named vector, page by page."""
    client, lacking = reader.connection.client, models.HasVectorCondition(has_vector=vector)
    condition, offset = models.Filter(must_not=[lacking]), None
    while True:
        records, offset = reader.connection.call(
            lambda offset=offset: client.scroll(  # type: ignore[misc]
                reader.collection,
                scroll_filter=condition,
                limit=reader.page,
                offset=offset,
                with_payload=False,
                with_vectors=False,
            )
        )
        if records:
            yield [str(record.id) for record in records]
        if offset is None:
            return


def write_vectors(reader: Reader, vector: str, rows: Mapping[PointId, Vectors]) -> None:
    """Set one named vector of at most one page of points; skips deleted ones."""
    page = reader.retrieve(list(rows))
    keys = dict(zip(page.ids, page.shard_keys, strict=True))
    writer = Writer(reader.connection, reader.collection)
    # A write names one shard key, and one missing point would fail it: both come from this read.
    for key, members in rows_by_key(page.ids, keys).items():
        ids = [page.ids[row] for row in members]
        made = np.stack([rows[each] for each in ids])
        require_usable(made, ids, "the new model or the projector")
        writer.update_vectors(ids, vector, made, key)
