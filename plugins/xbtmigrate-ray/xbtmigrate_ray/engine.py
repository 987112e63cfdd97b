"""The engine, as the command line builds it; Ray is imported when a run begins."""

from __future__ import annotations

import os
import secrets
from contextlib import AbstractContextManager

from xbtmigrate.errors import ConfigError, PluginError
from xbtmigrate.workflows.backfill.engine import Crew, Job


class RayEngine:
    """Carries out the passes on actors of Ray, each with one copy of the new model.

    Args:
        address: "HOST:PORT" of a cluster, "auto" for the one on this machine; unset, a cluster is
            started on this machine for the time of the run.
        actors: Number of workers.
        gpus_per_actor: GPUs of each; a share such as 0.5 puts two on one.

    Raises:
        ConfigError: A number is out of range.
    """

    def __init__(
        self, *, address: str | None = None, actors: int = 2, gpus_per_actor: float = 0.0
    ) -> None:
        if actors < 1 or gpus_per_actor < 0:
            raise ConfigError("--actors must be 1 or more, --gpus-per-actor 0 or more", "")
        self._address, self._actors, self._gpus = address, actors, gpus_per_actor

    def open(self, job: Job) -> AbstractContextManager[Crew]:
        """Start the workers, and look whether each has what it needs.

        Raises:
            XbtMigrateError: The cluster cannot be used, or a worker lacks something.
        """
        if job.store.connection.embedded:
            raise ConfigError(
                "an embedded collection can be opened by one process alone",
                "leave out --engine, or move the collection to a server",
            )
        # The user has not been asked.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if self._address is None:
            # Ray listens on every interface, and lets anyone in who has no token to show. It reads
            # these when it is imported.
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        try:
            from xbtmigrate_ray.crew import start_crew
        except ImportError as error:
            raise PluginError(
                f"Ray cannot be imported: {error}", "pip install 'xbtmigrate[ray]'"
            ) from error
        return start_crew(job, self._address, self._actors, self._gpus)
