"""Workflows: why the last run ended by an error, kept in the journal until the next one begins."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from xbtmigrate.config import Config
from xbtmigrate.errors import ConnectionFailedError, LeaseError, XbtMigrateError
from xbtmigrate.qdrant.journal.run_control import Control
from xbtmigrate.qdrant.wire.connection import Connection


@contextlib.contextmanager
def noted(config: Config, connection: Connection) -> Iterator[None]:
    """Keep the reason where the block ends by an error, so that `status` and `doctor` know it."""
    control = Control(connection, config.migration)
    control.note(None)
    try:
        yield
    except (ConnectionFailedError, LeaseError):
        # Over by itself, or another run's business.
        raise
    except XbtMigrateError as error:
        with contextlib.suppress(XbtMigrateError):
            control.note((error.message, error.hint))
        raise
