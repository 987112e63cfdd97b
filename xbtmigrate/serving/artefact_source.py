"""Find the artefacts that a searcher needs, in a folder or in Qdrant, and notice changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, TypeAlias

from xbtmigrate.artefacts import FOLDER, Artefacts
from xbtmigrate.errors import ArtefactError, XbtMigrateError
from xbtmigrate.migration.phases import OVER
from xbtmigrate.migration.plan import Plan
from xbtmigrate.projectors import Projector
from xbtmigrate.qdrant.journal.published import KIND, Published, select_published, unpack
from xbtmigrate.qdrant.wire.own_collection import JOURNAL, record_id
from xbtmigrate.scoring.calibration import Calibration
from xbtmigrate.scoring.centring import Centring
from xbtmigrate.scoring.hubness import StoredHubness
from xbtmigrate.serving.round_trips import Procedure
from xbtmigrate.types import Direction

Stamp: TypeAlias = tuple[object, ...]
MAX_PUBLISHED = 1000


@dataclass(frozen=True, slots=True)
class ServingArtefacts:
    """The artefacts that a searcher uses."""

    plan: Plan
    bridge: Projector | None
    forward: Projector | None
    calibration: Calibration | None
    hubness: StoredHubness | None
    centring: Centring | None


class ArtefactSource(Protocol):
    """Where artefacts are read from."""

    @property
    def migration(self) -> str:
        """Name of the migration."""
        ...

    def stamp(self) -> Procedure[Stamp]:
        """Return a value that changes with the content."""
        ...

    def parts(self) -> Procedure[ServingArtefacts]:
        """Read the content.

        Raises:
            ArtefactError: Something is missing or damaged.
        """
        ...


@dataclass(frozen=True, slots=True)
class FolderSource:
    """The folder of the migration."""

    folder: Path

    @property
    def migration(self) -> str:
        """Name of the migration."""
        return self.folder.name

    def stamp(self) -> Procedure[Stamp]:
        """Return the modification times of the files."""
        yield from ()
        # Artefacts are written by renaming, which changes the time of their folder too.
        return tuple(
            (path.name, path.stat().st_mtime_ns)
            for path in (
                self.folder / "plan.json",
                self.folder / "projector" / Direction.BRIDGE,
                self.folder / "projector" / Direction.FORWARD,
                self.folder / "serving",
            )
            if path.exists()
        )

    def parts(self) -> Procedure[ServingArtefacts]:
        """Read the files."""
        yield from ()
        return _read(Artefacts(self.folder))


@dataclass(frozen=True, slots=True)
class JournalSource:
    """The files that were published in Qdrant, beside the journal."""

    migration: str

    def stamp(self) -> Procedure[Stamp]:
        """Return the digest of the files."""
        return ((yield from self._published()).digest,)

    def parts(self) -> Procedure[ServingArtefacts]:
        """Fetch and read the files."""
        # A newer publication may remove these parts before they are fetched. `unpack` then raises,
        # and a searcher keeps its state until the next reload.
        published = yield from self._published()
        [found] = yield [
            lambda client: client.retrieve(JOURNAL, published.part_ids, with_payload=True)
        ]
        with TemporaryDirectory(prefix="xbtmigrate-") as folder:
            unpack(published, found, Path(folder))
            return _read(Artefacts(Path(folder)))

    def _published(self) -> Procedure[Published]:
        wanted = record_id(KIND, self.migration)
        [found] = yield [lambda client: client.retrieve(JOURNAL, [wanted], with_payload=True)]
        if not found:
            raise ArtefactError(
                f"the published files of the migration '{self.migration}' are gone",
                "publish it again with `xbtmigrate publish --yes`",
            )
        return Published.of(found[0].payload)


def find_source(
    collection: str, vector: str | None, folder: Path | str | None
) -> Procedure[ArtefactSource]:
    """Find the artefacts of a collection's migration.

    Args:
        collection: Name or alias of the collection.
        vector: Name of the old vector, where the collection has several migrations.
        folder: `.xbtmigrate/<migration>`; None looks under the working directory, then in the
            journal.

    Raises:
        ArtefactError: There are none, or of several migrations.
    """
    if folder is not None:
        # Absolute, because the application may change its working directory.
        return FolderSource(Path(folder).resolve())
    # The folder is newer than the files published from it, so it comes first.
    here = [each.parent for each in sorted(Path(FOLDER).glob("*/plan.json"))]
    found: list[ArtefactSource] = [
        FolderSource(each.resolve()) for each in _of(here, collection, vector)
    ]
    if not found:
        found = [
            JournalSource(each.migration)
            for each in (yield from _listed(collection))
            if vector in (None, each.vector)
        ]
    if len(found) > 1:
        found = yield from _current(found)
    if len(found) == 1:
        return found[0]
    if found:
        raise ArtefactError(
            f"'{collection}' has several migrations: "
            + ", ".join(sorted(each.migration for each in found)),
            "name its old vector or its folder",
        )
    raise ArtefactError(
        f"no migration of '{collection}' was found: there is no plan under "
        f"{Path(FOLDER).resolve()}, and nothing is published in Qdrant",
        "run the application beside the folder .xbtmigrate, name the folder, or run "
        "`xbtmigrate publish --yes` where the folder is",
    )


def _current(found: Sequence[ArtefactSource]) -> Procedure[list[ArtefactSource]]:
    """Leave out migrations that have ended; if all have, keep the last one."""
    [exists] = yield [lambda client: client.collection_exists(JOURNAL)]
    if not exists:
        return list(found)
    ids = {record_id("migration", each.migration): each for each in found}
    [records] = yield [lambda client: client.retrieve(JOURNAL, [*ids], with_payload=True)]
    # Times are ISO 8601 in UTC, so their order as text is their order in time.
    ended = {
        str(record.id): str(record.payload.get("updated_at"))
        for record in records
        if record.payload and record.payload.get("phase") in OVER
    }
    current = [each for key, each in ids.items() if key not in ended]
    return current or [ids[max(ended, key=ended.__getitem__)]]


def _of(folders: Sequence[Path], collection: str, vector: str | None) -> Iterator[Path]:
    for folder in folders:
        try:
            plan = Artefacts(folder).load_plan()
        except XbtMigrateError:
            # The folder of another migration may be damaged without harm to this one.
            continue
        if collection in names_of(plan) and vector in (None, plan.collection.vector):
            yield folder


def names_of(plan: Plan) -> frozenset[str]:
    """List the names that an application may use for the collection of a plan."""
    configured = plan.binding.get("qdrant.collection")
    return frozenset(
        name for name in (plan.collection.name, plan.collection.alias, configured) if name
    )


def _listed(collection: str) -> Procedure[list[Published]]:
    [exists] = yield [lambda client: client.collection_exists(JOURNAL)]
    if not exists:
        return []
    [(records, _)] = yield [
        lambda client: client.scroll(JOURNAL, select_published(collection), limit=MAX_PUBLISHED)
    ]
    found = []
    for record in records:
        # A damaged record concerns only its own migration.
        with suppress(ArtefactError):
            found.append(Published.of(record.payload))
    return found


def _read(artefacts: Artefacts) -> ServingArtefacts:
    bridge, forward = (
        Projector.load(folder) if folder.exists() else None
        for folder in map(artefacts.projector_folder, (Direction.BRIDGE, Direction.FORWARD))
    )
    calibration = artefacts.load_calibration()
    # A calibration is valid only with the bridge that it was fitted with.
    if calibration and (bridge is None or calibration.projectors[0] != bridge.digest):
        calibration = None
    # Stored hubness is keyed by its calibration, and useless without it.
    hubness = artefacts.load_hubness() if calibration else None
    centring = None if forward is None else artefacts.load_centring(forward.digest)
    return ServingArtefacts(artefacts.load_plan(), bridge, forward, calibration, hubness, centring)
