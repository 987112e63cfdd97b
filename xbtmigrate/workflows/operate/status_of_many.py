"""Report where each of many migrations stands, over one connection. Reads only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from xbtmigrate.config import Config
from xbtmigrate.documents.status import StatusDocument
from xbtmigrate.errors import XbtMigrateError
from xbtmigrate.migration.phases import Phase
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.workflows.operate.status import status_over
from xbtmigrate.workflows.store import open_connection

AT_A_TIME = 4
"""Collections that are counted side by side: enough to keep a server busy."""
_WORKING = (
    Phase.BACKFILLING,
    Phase.PAUSED,
    Phase.CUTTING_OVER,
    Phase.ROLLING_BACK,
    Phase.FINALIZING,
    Phase.ABORTING,
)
"""Phases that a command leaves behind only where it ended early."""
_PHASES = ("not planned", *Phase)


class Standing(NamedTuple):
    """Where one migration stands.

    Attributes:
        collection: Its collection, as the configuration names it.
        status: Its status, or why it cannot be told.
        concern: Why it needs attention; "" where it does not.
        rank: Sorts those that need attention first, then those that are furthest behind.
    """

    collection: str
    status: StatusDocument | XbtMigrateError
    concern: str
    rank: tuple[int, int]


def report_statuses(configs: Sequence[Config]) -> Iterator[Standing]:
    """Yield where each migration stands, in the order of the settings.

    Args:
        configs: The settings of each, of one server.

    Raises:
        XbtMigrateError: The server cannot be used.
    """
    with (
        open_connection(configs[0]) as connection,
        ThreadPoolExecutor(AT_A_TIME) as pool,
    ):
        yield from pool.map(partial(_look, connection), configs)


def _look(connection: Connection, config: Config) -> Standing:
    name = config.qdrant.collection
    try:
        status = status_over(config, connection)
    except XbtMigrateError as error:
        return Standing(name, error, "", (0, 0))
    step = _PHASES.index(status["phase"])
    for number, concern in enumerate(_concerns(status), 1):
        if concern:
            return Standing(name, status, concern, (number, step))
    return Standing(name, status, "", (9, step))


def _concerns(status: StatusDocument) -> Iterator[str]:
    """Yield what needs attention, the worst first, "" for what does not."""
    error, late = status["last_error"], status["late_writes"]
    yield f"the last run ended: {error}" if error else ""
    # While a command is at work, no other one is next.
    idle = status["phase"] in _WORKING and status["next"] is not None
    yield f"stopped; go on with `{status['next']}`" if idle else ""
    yield f"{late:,} points written since the backfill" if late else ""
    load = status["load"]
    yield f"{load['state']}: {load['reason']}" if load["reason"] else ""
