"""Keep in the journal why the last run failed, until the next run begins."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from xbtmigrate.config import Config
from xbtmigrate.errors import ConnectionFailedError, LeaseError, XbtMigrateError
from xbtmigrate.qdrant.journal.run_control import Control
from xbtmigrate.qdrant.wire.connection import Connection


@contextlib.contextmanager
def note_error(config: Config, connection: Connection) -> Iterator[None]:
    """Store the error that ends the block, so that `status` and `doctor` can show it."""
    control = Control(connection, config.migration)
    # An earlier error must not be shown as that of this run, even if this one is killed.
    control.store_error(None)
    try:
        yield
    except (ConnectionFailedError, LeaseError):
        # A lost connection could not be stored anyway; a lost lease concerns another run.
        raise
    except XbtMigrateError as error:
        # Failing to store the note must not hide the error itself.
        with contextlib.suppress(XbtMigrateError):
            control.store_error((error.message, error.hint))
        raise
