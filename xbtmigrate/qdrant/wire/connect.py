"""Open a Qdrant after checking its address, key, certificates and version."""

from __future__ import annotations

import json
import re
import uuid
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from qdrant_client import AsyncQdrantClient, QdrantClient, models

from xbtmigrate.errors import ConnectionFailedError, UnsupportedError, XbtMigrateError
from xbtmigrate.qdrant.wire.address import explain
from xbtmigrate.qdrant.wire.connection import ATTEMPTS, BRIEF_ATTEMPTS, OLDEST, Connection, Version
from xbtmigrate.qdrant.wire.quick_search import QuickSearchClient
from xbtmigrate.qdrant.wire.server_errors import (
    SERVER_ERRORS,
    is_transient,
    is_transient_answer,
    status_of,
)
from xbtmigrate.qdrant.wire.transport import PLAIN, Certificates, Rest, Rpc, raise_refusals


def connect(
    url: str,
    *,
    api_key: str | None = None,
    prefer_grpc: bool = False,
    grpc_port: int = 6334,
    timeout: int = 60,
    ca_file: Path | None = None,
) -> Connection:
    """Open a server (`http://...`) or an embedded database (`path:DIR`).

    Args:
        url: Address of the server, or `path:` and the folder of an embedded database.
        api_key: Key or JWT of the server.
        prefer_grpc: Speak gRPC where the client library can.
        grpc_port: Port of the server's gRPC interface.
        timeout: Seconds until one request is given up.
        ca_file: Certificates to trust in place of the usual ones, PEM.

    Raises:
        ConfigError: The file of certificates cannot be used.
        ConnectionFailedError: Nothing answers, the credentials are refused, or the folder is not
            an embedded Qdrant or is open in another process.
        UnsupportedError: The server is too old.
    """
    if url.startswith("path:"):
        return _open_folder(Path(url.removeprefix("path:")), url)
    _refuse_address(url)
    certificates = Certificates.load(ca_file)
    client = _open_client(
        url,
        certificates,
        api_key=api_key,
        prefer_grpc=prefer_grpc,
        grpc_port=grpc_port,
        timeout=timeout,
    )
    client.http.client.add_middleware(raise_refusals)
    rest = Rest(client, api_key, timeout, certificates)
    probe = Connection(
        client,
        "server",
        OLDEST,
        url,
        attempts=BRIEF_ATTEMPTS,
        # Where nothing listens, the address is wrong or the server down: whoever typed it waits.
        passing=is_transient_answer,
        # Some servers expose only the gRPC port; requests then go through the client library.
        rest=None if prefer_grpc and not rest.answers() else rest,
        rpc=Rpc(url, grpc_port, api_key, timeout, certificates=certificates, trusted=prefer_grpc),
    )
    return _checked(probe, with_key=api_key is not None)


def _refuse_address(url: str) -> None:
    """Raise for a text that is no web address; the client library would take it for a host name."""
    if not url.startswith(("http://", "https://")):
        raise ConnectionFailedError(
            f"'{url}' is not an address of Qdrant",
            'write qdrant.url = "http://host:6333", or "path:DIR" for the embedded mode',
        )


def _open_client(
    url: str,
    certificates: Certificates,
    *,
    api_key: str | None,
    prefer_grpc: bool,
    grpc_port: int,
    timeout: int,
) -> QdrantClient:
    """Open the client library; raises ConnectionFailedError for an invalid address."""
    with warnings.catch_warnings():
        # The library warns about versions, which are checked here, and keys over plain HTTP.
        warnings.simplefilter("ignore")
        try:
            return QdrantClient(
                url=url,
                api_key=api_key,
                prefer_grpc=prefer_grpc,
                grpc_port=grpc_port,
                grpc_options={**PLAIN, **certificates.grpc_options},
                timeout=timeout,
                verify=certificates.context(),
                check_compatibility=False,
            )
        except ValueError as error:
            raise ConnectionFailedError(
                f"'{url}' is not a valid address: {error}", "correct qdrant.url"
            ) from error


def open_async(
    url: str, *, api_key: str | None, timeout: int, seconds: float, ca_file: Path | None
) -> AsyncQdrantClient:
    """Open a server or an embedded database that `connect` has found usable.

    Args:
        url: Address of the server, or `path:` and the folder of an embedded database.
        api_key: Key or JWT of the server.
        timeout: Seconds until one request is given up.
        seconds: Seconds until a search is given up.
        ca_file: Certificates to trust in place of the usual ones, PEM.
    """
    if url.startswith("path:"):
        return AsyncQdrantClient(path=url.removeprefix("path:"))
    with warnings.catch_warnings():
        # The library warns about keys over plain HTTP, which the configuration decides.
        warnings.simplefilter("ignore")
        return QuickSearchClient(url, api_key, timeout, seconds, Certificates.load(ca_file))


def _open_folder(folder: Path, url: str) -> Connection:
    # The client library creates a database in any folder without one, even a mistyped one.
    meta = folder / "meta.json"
    if not meta.is_file():
        what = "does not exist" if not folder.exists() else "is not an embedded Qdrant database"
        raise ConnectionFailedError(
            f"the folder {folder} {what}", 'correct the folder in qdrant.url = "path:DIR"'
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Reads come from memory, so a second thread may read; only the loop writes.
            client = QdrantClient(path=str(folder), force_disable_check_same_thread=True)
    except RuntimeError as error:
        raise ConnectionFailedError(
            f"the embedded Qdrant in {folder} is in use by another process",
            "end the program that has it open; only one process at a time can use such a folder",
        ) from error
    # The library reads its files without checking them, so a damaged one fails in many ways.
    except (OSError, ValueError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ConnectionFailedError(
            f"the embedded Qdrant in {folder} cannot be opened: {error}",
            "check the folder's permissions, or restore it from a copy",
        ) from error
    return Connection(client, "embedded", _parsed(client.info().version), url)


def _checked(probe: Connection, *, with_key: bool) -> Connection:
    """Read a server's version, and a list that needs valid credentials."""
    try:
        version = _version_of(probe)
    except XbtMigrateError as error:
        probe.close()
        raise explain(error, probe.url, with_key=with_key) from error.__cause__
    # The address is right, so from here on a failure is more likely an outage.
    return replace(probe, version=version, attempts=ATTEMPTS, passing=is_transient)


def _version_of(probe: Connection) -> Version:
    version = _parsed(probe.call(probe.client.info).version)
    if version < OLDEST:
        oldest = ".".join(map(str, OLDEST[:2]))
        raise UnsupportedError(
            f"Qdrant at {probe.url} has version {'.'.join(map(str, version))}",
            f"upgrade the server to {oldest} or newer",
        )
    # A server returns its version to anyone; listing collections needs valid credentials.
    probe.call(probe.client.get_collections)
    return version


def _parsed(version: str) -> Version:
    # Suffixes of development builds are dropped; a missing number counts as 0.
    numbers = [int(number) for number in re.findall(r"\d+", version)[:3]]
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return major, minor, patch


def check_writable(connection: Connection, collection: str) -> None:
    """Check that the credentials allow a migration, by two writes that change nothing.

    Deletes a point that does not exist, and applies an empty list of alias changes, which needs
    the same rights as creating the journal and the shadow.

    Raises:
        ConnectionFailedError: The key may only read, or may not create collections.
    """
    if connection.embedded:
        return
    nothing = models.PointIdsList(points=[str(uuid.uuid4())])
    needs = {
        f"write points of '{collection}'": lambda: connection.client.delete(collection, nothing),
        "create collections": lambda: connection.client.update_collection_aliases([]),
    }
    for right, request in needs.items():
        try:
            connection.call(lambda request=request: _unless_malformed(request))  # type: ignore[misc]
        except ConnectionFailedError as error:
            raise ConnectionFailedError(
                f"this API key has no right to {right}: {error.message}",
                "give a key with full access in the variable named by qdrant.api_key_env",
            ) from error


def _unless_malformed(request: Callable[[], object]) -> None:
    try:
        request()
    except SERVER_ERRORS as error:
        # Rights are checked first; under custom sharding, a delete without a key then gets a 400.
        if status_of(error) != 400:
            raise
