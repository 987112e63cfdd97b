"""Room `search`: opens what searchers and wrapped clients share."""

from __future__ import annotations

from pathlib import Path

from xbtmigrate.search.asking import Steps
from xbtmigrate.search.core import INTERVAL, Core
from xbtmigrate.search.demand import DemandLog
from xbtmigrate.search.embedding import AnyEncoder
from xbtmigrate.search.loading import Loader
from xbtmigrate.search.origin import find_origin


def open_core(
    collection: str,
    *,
    embedded: bool,
    new_encoder: AnyEncoder | None = None,
    old_encoder: AnyEncoder | None = None,
    folder: Path | str | None = None,
    vector: str | None = None,
    serving: str = "",
    interval: float = INTERVAL,
    demand: DemandLog | None = None,
) -> Steps[Core]:
    """Find the artefacts of a collection's migration and read where it stands.

    Args:
        collection: Name or alias of the collection.
        embedded: Whether the database is within this process.
        new_encoder: The new model.
        old_encoder: The old model.
        folder: `.xbtmigrate/<migration>`; None looks under the working directory, then in Qdrant.
        vector: Name of the old vector, where the collection has several migrations.
        serving: The serving asked for, "" for the recommended one.
        interval: Seconds between two looks at the journal, at least.
        demand: Where the points found are counted.

    Raises:
        ArtefactError: There are no artefacts, or they do not belong to the migration.
    """
    origin = yield from find_origin(collection, vector, folder)
    loader = Loader(origin, serving, embedded)
    situation = yield from loader.first()
    return Core(loader, situation, (old_encoder, new_encoder), interval, demand)
