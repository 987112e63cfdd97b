"""Open the core of searchers and wrapped clients: find the artefacts and read the state."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from xbtmigrate.serving.artefact_source import find_source
from xbtmigrate.serving.embed import AnyEncoder
from xbtmigrate.serving.engine import INTERVAL, Core
from xbtmigrate.serving.load_state import Loader
from xbtmigrate.serving.round_trips import Procedure
from xbtmigrate.serving.traffic_log import DemandLog


class OpenOptions(TypedDict, total=False):
    """The options with which searchers and wrapped clients are opened.

    Attributes:
        new_encoder: The new model, for queries given as text or image.
        old_encoder: The old model; it answers until the cutover.
        folder: `.xbtmigrate/<migration>`; None looks for it under the working directory, then for
            what `xbtmigrate publish` or a backfill stored in Qdrant.
        vector: Name of the old vector, where the collection has several migrations.
        serving: The way to serve before the cutover: keep, bridge, single, merge, slerp,
            calibrated or calibrated_bridge. "" changes nothing until then.
        interval: Seconds between two looks at the journal, at least.
        demand: Where the points found are counted.
        centre_queries: Whether queries of the new space are centred as training fitted it.
    """

    new_encoder: AnyEncoder | None
    old_encoder: AnyEncoder | None
    folder: Path | str | None
    vector: str | None
    serving: str
    interval: float
    demand: DemandLog | None
    centre_queries: bool


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
    centre_queries: bool = True,
) -> Procedure[Core]:
    """Find the artefacts of a collection's migration and read its first state; see `OpenOptions`.

    Raises:
        ArtefactError: There are no artefacts, or they do not belong to the migration.
    """
    source = yield from find_source(collection, vector, folder)
    loader = Loader(source, serving, embedded, centre_queries)
    # Here and not at the first query, so that missing or foreign artefacts fail when an application
    # starts, and not during its traffic.
    state = yield from loader.load()
    return Core(loader, state, (old_encoder, new_encoder), interval, demand)
