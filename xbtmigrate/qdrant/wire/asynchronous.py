"""Qdrant: an asyncio client, for a service that answers many queries at a time."""

from __future__ import annotations

import warnings
from pathlib import Path

from qdrant_client import AsyncQdrantClient

from xbtmigrate.qdrant.wire.tls import Trust


def open_async(
    url: str, *, api_key: str | None, timeout: int, ca_file: Path | None
) -> AsyncQdrantClient:
    """Open a server or an embedded database that `connect` has found usable.

    Args:
        url: Address of the server, or `path:` and the folder of an embedded database.
        api_key: Key or JWT of the server.
        timeout: Seconds until one request is given up.
        ca_file: Certificates to trust in place of the usual ones, PEM.
    """
    if url.startswith("path:"):
        return AsyncQdrantClient(path=url.removeprefix("path:"))
    with warnings.catch_warnings():
        # The library warns of keys over plain HTTP, which is for the configuration to decide.
        warnings.simplefilter("ignore")
        return AsyncQdrantClient(
            url=url,
            api_key=api_key,
            timeout=timeout,
            verify=Trust.of(ca_file).context(),
            check_compatibility=False,
        )
