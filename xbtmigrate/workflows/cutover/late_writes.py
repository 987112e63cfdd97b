"""Carry an application's late writes from one side of a switch to the other.

A write is late if it went to the side that applications were leaving. The ledger, a hash of each
point at the switch, shows which side has changed since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.config import Config
from xbtmigrate.files import write_atomically
from xbtmigrate.migration.point_hashes import PointHashes
from xbtmigrate.projectors import Projector
from xbtmigrate.protocols import Gallery
from xbtmigrate.qdrant.gallery.open_gallery import open_fidelity, open_reader
from xbtmigrate.qdrant.gallery.replicate import (
    CopyResult,
    Make,
    Replicator,
    hash_collection,
    scroll_without,
    write_vectors,
)
from xbtmigrate.qdrant.journal.kept_hashes import fetch_ledger, store_ledger
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.points import Page
from xbtmigrate.qdrant.wire.reader import Reader
from xbtmigrate.types import (
    Layout,
    PointId,
    Vectors,
    given_of,
    keep_given,
    normalized,
    usable,
    vectors_of,
)
from xbtmigrate.workflows.backfill.request import BackfillRequest
from xbtmigrate.workflows.encode_points import encode_gallery, encode_readable
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.points import Points
from xbtmigrate.workflows.store import Store
from xbtmigrate.workflows.verify.check_points import LIKE
from xbtmigrate.workflows.workspace import Workspace

# Under steady writes, every pass may find something; the same command carries the rest later.
PASSES = 10
# Characters of the content hash; with two flags they fill the 16 that a ledger stores for a point.
_CONTENT = 14


@dataclass(frozen=True, slots=True)
class LateWrites:
    """Carries writes of one migration between its two sides.

    Attributes:
        store: What the migration has in Qdrant.
        models: Both models.
        workspace: The migration's files.
        request: Its plan, and how far it was to be encoded.
        projector: Old -> new; None where nothing is projected.
    """

    store: Store
    models: Models
    workspace: Workspace
    request: BackfillRequest
    projector: Projector | None

    @property
    def shadow(self) -> bool:
        """Whether the two sides are two collections."""
        return self.request.plan.target.layout is Layout.SHADOW

    def make_ledger(self) -> PointHashes:
        """Hash every point as it is now: in a shadow the whole copy, in place its content."""
        # The hash is of the copy, not of the source: a source that changed after it was copied
        # must differ from the ledger to be carried over.
        if self.shadow:
            return hash_collection(self._reader(self.request.plan.target.collection))
        notes = dict(self._notes())
        return PointHashes(list(notes), list(notes.values()))

    def copy_to_new(self, ledger: PointHashes, *, dry: bool = False) -> CopyResult:
        """Carry over what was written to the old side after the last catch-up."""
        if self.shadow:
            return self._replicator(ledger, self._new_vectors, backwards=False).run(dry=dry)
        wanted = self._to_complete(ledger, new=True)
        return self._complete(wanted, self._new_vectors, new=True, dry=dry)

    def copy_to_old(self, ledger: PointHashes, *, dry: bool = False) -> CopyResult:
        """Carry back what was written to the new side since the cutover."""
        if self.shadow:
            return self._replicator(ledger, self._old_vectors, backwards=True).run(dry=dry)
        wanted = self._to_complete(ledger, new=False)
        return self._complete(wanted, self._old_vectors, new=False, dry=dry)

    def scroll_without_new(self) -> Iterator[list[PointId]]:
        """Yield points of the old side that have no new vector, page by page.

        In place these are points that have an old vector and no new one.
        """
        plan = self.request.plan
        source, target = (
            self._reader(each) for each in (plan.collection.name, plan.target.collection)
        )
        # A point that the source no longer has is left out: no vector of it is lost.
        for ids in scroll_without(target, plan.target.vector):
            page = source.retrieve(ids, vectors=[plan.collection.vector])
            yield [
                point
                for point, vectors in zip(page.ids, page.vectors, strict=True)
                if self.shadow or vectors
            ]

    def repeat(
        self, carry: Callable[[], CopyResult], ledger: PointHashes, *, enough: int = 0
    ) -> CopyResult:
        """Carry in passes, each of which updates the ledger, until one finds at most `enough`."""
        total = CopyResult()
        for _ in range(PASSES):
            step = carry()
            # Carry, then store the ledger: a crash repeats a pass, which is harmless.
            save_ledger(self.store.config, self.store.connection, self.workspace.artefacts, ledger)
            total = total.plus(step)
            if step.changes <= enough:
                break
        return total

    def _reader(self, collection: str) -> Reader:
        return open_reader(self.store.connection, self.store.facts, collection)

    def _replicator(self, ledger: PointHashes, make: Make, *, backwards: bool) -> Replicator:
        plan = self.request.plan
        # Writes travel from the side that applications leave: source at a cutover, shadow at a
        # rollback.
        names = [plan.collection.name, plan.target.collection]
        origin, other = (self._reader(name) for name in (names[::-1] if backwards else names))
        fidelity = open_fidelity(self.store.connection, self.store.facts, plan.target)
        assert fidelity is not None
        return Replicator(
            connection=self.store.connection,
            origin=origin,
            other=other,
            vector=plan.collection.vector if backwards else plan.target.vector,
            copied=fidelity.copied,
            fields=self.store.fields,
            ledger=ledger,
            make=make,
            # At a cutover a point without a vector is still carried: a shadow holds every point.
            complete=not backwards,
        )

    def _notes(self) -> Iterator[tuple[PointId, str]]:
        """In place: yield each point's content hash and two flags, for its old and new vector."""
        plan, reader = self.request.plan, self._reader(self.request.plan.collection.name)
        # Two filtered scrolls find the few points that lack a vector; no vector is transferred.
        lacking = [
            {point for page in scroll_without(reader, name) for point in page}
            for name in (plan.collection.vector, plan.target.vector)
        ]
        for batch in self.store.gallery(plan).read({"source"}):
            columns = (batch["id"].to_pylist(), batch["content_hash"].to_pylist())
            for point, content in zip(*columns, strict=True):
                flags = "".join("0" if point in each else "1" for each in lacking)
                yield point, content[:_CONTENT] + flags

    def _to_complete(self, ledger: PointHashes, *, new: bool) -> list[PointId]:
        """In place: yield points whose content changed, or which lost the vector of one side."""
        side, found = (-1 if new else -2), []
        # With a projector alone, a vector that the application has made must not be replaced.
        by_content = not new or self.request.fraction > 0
        for point, note in self._notes():
            before = ledger.find([point])[0]
            same = before is not None and before[:-2] == note[:-2]
            never = same and before is not None and before[side] == "0"
            # Each point is to have a new vector, but an old one only if it had one.
            lost = note[side] == "0" and (new or not never)
            if lost or (by_content and not same):
                found.append(point)
        return found

    def _complete(self, ids: Sequence[PointId], make: Make, *, new: bool, dry: bool) -> CopyResult:
        """In place: write the vectors of one side that are missing or belong to other content."""
        done, plan = CopyResult(), self.request.plan
        reader = self._reader(plan.collection.name)
        name, column = (plan.target.vector, "new") if new else (plan.collection.vector, "old")
        for part in reader.pages_of(ids):
            page = reader.retrieve(part, payload=True)
            # Compare before writing: an application that already writes this side has put a true
            # vector there, which stays.
            made = make(page)
            stored = self._stored(page.ids, column)
            wrong = {
                point: row
                for point, row in made.items()
                if point not in stored or not _alike(stored[point], row)
            }
            done.left += [each for each in page.ids if each not in made]
            done.carried += len(wrong)
            done.note(wrong)
            if wrong and not dry:
                write_vectors(reader, name, wrong)
        return done

    def _stored(self, ids: Sequence[PointId], column: str) -> dict[PointId, Vectors]:
        found: dict[PointId, Vectors] = {}
        for batch in self._gallery().read({column}, ids=ids):
            kept = batch.filter(pc.is_valid(batch[column]))
            found.update(zip(kept["id"].to_pylist(), vectors_of(kept, column), strict=True))
        return found

    def _gallery(self) -> Gallery:
        return self.store.gallery(self.request.plan)

    def _new_vectors(self, page: Page) -> Mapping[PointId, Vectors]:
        """Encode; project if the plan encodes nothing, or if a point cannot be encoded."""
        found: dict[PointId, Vectors] = {}
        # The cache is keyed by content, so a repeated pass encodes nothing twice.
        if self.request.fraction > 0:
            points = self._points(page)
            made, valid = encode_gallery(
                self.models.new, self.workspace.cache, points, self.models.stored
            )
            found = {page.ids[row]: made[row] for row in np.flatnonzero(valid)}
        rest = [each for each in page.ids if each not in found]
        if self.projector is not None and rest:
            for batch in map(keep_given, self._gallery().read({"old"}, ids=rest)):
                projected = self.projector.apply(*given_of(batch))
                fit = usable(projected)
                ids = batch["id"].filter(pa.array(fit)).to_pylist()
                found.update(zip(ids, projected[fit], strict=True))
        return found

    def _old_vectors(self, page: Page) -> Mapping[PointId, Vectors]:
        """Encode with the old model; nothing where it is gone."""
        if not self.models.has_old:
            return {}
        # A bridge could map new vectors back, but only roughly; a rollback restores true ones.
        points = self._points(page)
        items = points.content(self.models.stored)
        made, valid = encode_readable(self.models.old, items, self.models.stored, ids=page.ids)
        return {page.ids[row]: made[row] for row in np.flatnonzero(valid)}

    def _points(self, page: Page) -> Points:
        columns = page.source_columns(self.store.fields)
        texts, images, hashes = (
            columns[name].to_pylist() for name in ("text", "image", "content_hash")
        )
        return Points(page.ids, texts, images, hashes, np.empty((len(page), 0), np.float32))


def save_ledger(
    config: Config, connection: Connection, artefacts: Artefacts, ledger: PointHashes
) -> None:
    """Store the ledger in the migration's folder, and in Qdrant for every other machine."""
    # Qdrant gets the same bytes as the file, so either copy can replace the other.
    artefacts.save_ledger(ledger)
    content = artefacts.ledger_file.read_bytes()
    store_ledger(connection, config.migration, content)


def load_ledger(config: Config, connection: Connection, artefacts: Artefacts) -> PointHashes:
    """Load the ledger, from Qdrant if it has one, since another machine may have switched.

    Raises:
        ArtefactError: It is lost or damaged.
    """
    stored = fetch_ledger(connection, config.migration)
    # Qdrant takes precedence: another machine may have carried writes since this one stopped.
    if stored is not None:
        file = artefacts.ledger_file
        write_atomically(file, lambda temporary: temporary.write_bytes(stored))
    return artefacts.load_ledger()


def _alike(stored: Vectors, made: Vectors) -> bool:
    # Not equality: servers normalize vectors and may round them to float16.
    return bool((normalized(stored[None]) * normalized(made[None])).sum() >= LIKE)
