"""Qdrant: one connection to a server or to an embedded database, and what its version can do."""

from __future__ import annotations

import json
import re
import threading
import uuid
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

import httpx
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse
from tenacity import RetryError, retry_if_exception, retry_if_result

from xbtmigrate.errors import ConnectionFailedError, UnsupportedError, XbtMigrateError
from xbtmigrate.qdrant.wire.address import explained
from xbtmigrate.qdrant.wire.embedded import use_write_ahead_log
from xbtmigrate.qdrant.wire.grpc import PLAIN, Rpc
from xbtmigrate.qdrant.wire.rest import Rest
from xbtmigrate.qdrant.wire.retry import ATTEMPTS, BRIEF, Patience
from xbtmigrate.qdrant.wire.server_errors import (
    EMBEDDED_ERRORS,
    SERVER_ERRORS,
    is_transient,
    status_of,
    translated,
)
from xbtmigrate.qdrant.wire.tls import Trust

T = TypeVar("T")
Version: TypeAlias = tuple[int, int, int]

OLDEST: Version = (1, 13, 0)
"""Oldest server that is supported: it brought has_vector, which every exact count needs."""
METADATA: Version = (1, 16, 0)
CONDITIONAL_UPSERT: Version = (1, 16, 0)
ADD_VECTOR: Version = (1, 18, 0)
DROP_VECTOR: Version = (1, 19, 0)
"""Servers of 1.18 can do it too, but may lose points that were not flushed before (#9105 there)."""


@dataclass(frozen=True, slots=True)
class Connection:
    """An open Qdrant; close it with `close`, or use it in a `with` block.

    Attributes:
        client: The client library's own object.
        mode: An embedded folder, locked for this process, or a server shared with others.
        version: Version of the server; of the client library in the embedded mode.
        url: Address as the user gave it, for messages.
        attempts: How often a request is tried when the failure may pass.
        rest: The server's REST interface as bytes; None where only gRPC answers, or embedded.
        rpc: The server's gRPC interface as bytes, not yet trusted to lead to the same server unless
            the user asked for gRPC; None in the embedded mode.
        lock: Held by each request to an embedded database, which takes one at a time.
        patience: Tries requests again, and knows what was waited for.
    """

    client: QdrantClient
    mode: Literal["embedded", "server"]
    version: Version
    url: str
    attempts: int = ATTEMPTS
    rest: Rest | None = None
    rpc: Rpc | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    patience: Patience = field(default_factory=Patience)

    @property
    def embedded(self) -> bool:
        """Whether this process alone holds the database."""
        return self.mode == "embedded"

    def at_least(self, version: Version) -> bool:
        """Whether the server is of this version or newer."""
        return self.version >= version

    def brief(self) -> Connection:
        """Return the same connection for requests that something else makes up for."""
        return replace(self, attempts=BRIEF)

    def call(self, request: Callable[[], T]) -> T:
        """Send a request; try again what may pass.

        Raises:
            XbtMigrateError: The failure stays; its message says what it means.
        """
        retry = retry_if_exception(is_transient)
        retrying = self.patience.retrying(self.url, self.attempts, retry)
        return self._translating(lambda: retrying(request))

    def write(
        self, request: Callable[[], models.UpdateResult | Sequence[models.UpdateResult]]
    ) -> None:
        """Send a write and see that it was applied; "acknowledged" alone is not done.

        Raises:
            XbtMigrateError: The failure stays, or the server never confirms.
        """
        retry = retry_if_exception(is_transient) | retry_if_result(_is_unconfirmed)
        retrying = self.patience.retrying(self.url, self.attempts, retry)
        if self.embedded:
            with self.lock:
                use_write_ahead_log(self.client)
        try:
            self._translating(lambda: retrying(request))
        except RetryError as error:
            raise ConnectionFailedError(
                f"Qdrant at {self.url} accepts writes but does not apply them in time",
                "wait until its update queue is shorter, then run the same command again",
            ) from error

    def close(self) -> None:
        """Give up the connection, and the lock of an embedded folder."""
        if self.rest is not None:
            self.rest.close()
        if self.rpc is not None:
            self.rpc.close()
        self.client.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _translating(self, request: Callable[[], T]) -> T:
        expected = EMBEDDED_ERRORS if self.embedded else SERVER_ERRORS
        try:
            if self.embedded:
                with self.lock:
                    return request()
            return request()
        except RetryError:
            raise
        except expected as error:
            raise translated(error, self.url) from error


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
    if not url.startswith(("http://", "https://")):
        raise ConnectionFailedError(
            f"'{url}' is not an address of a Qdrant",
            'write qdrant.url = "http://host:6333", or "path:DIR" for the embedded mode',
        )
    trust = Trust.of(ca_file)
    with warnings.catch_warnings():
        # The library warns of versions, which are checked here, and of keys over plain HTTP.
        warnings.simplefilter("ignore")
        try:
            client = QdrantClient(
                url=url,
                api_key=api_key,
                prefer_grpc=prefer_grpc,
                grpc_port=grpc_port,
                grpc_options={**PLAIN, **trust.grpc_options},
                timeout=timeout,
                verify=trust.context(),
                check_compatibility=False,
            )
        except ValueError as error:
            raise ConnectionFailedError(
                f"'{url}' is not a valid address: {error}", "correct qdrant.url"
            ) from error
    client.http.client.add_middleware(_raise_refusals)
    rest = Rest(client, api_key, timeout, trust)
    probe = Connection(
        client,
        "server",
        OLDEST,
        url,
        attempts=BRIEF,
        rest=None if prefer_grpc and not rest.answers() else rest,
        rpc=Rpc(url, grpc_port, api_key, timeout, trust=trust, trusted=prefer_grpc),
    )
    return _checked(probe, with_key=api_key is not None)


def _raise_refusals(
    request: httpx.Request, send: Callable[[httpx.Request], httpx.Response]
) -> httpx.Response:
    """Raise a refusal before the library does, which takes nothing but seconds for Retry-After."""
    answer = send(request)
    if answer.status_code == 429:
        raise UnexpectedResponse.for_response(answer)
    return answer


def _open_folder(folder: Path, url: str) -> Connection:
    meta = folder / "meta.json"
    if not meta.is_file():
        what = "does not exist" if not folder.exists() else "is not an embedded Qdrant database"
        raise ConnectionFailedError(
            f"the folder {folder} {what}", 'correct the folder in qdrant.url = "path:DIR"'
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Reads come from memory, so a second thread may read; the loop alone writes.
            client = QdrantClient(path=str(folder), force_disable_check_same_thread=True)
    except RuntimeError as error:
        raise ConnectionFailedError(
            f"the embedded Qdrant in {folder} is in use by another process",
            "end the program that has it open; only one process at a time can use such a folder",
        ) from error
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
        raise explained(error, probe.url, with_key=with_key) from error.__cause__
    return replace(probe, version=version, attempts=ATTEMPTS)


def _version_of(probe: Connection) -> Version:
    version = _parsed(probe.call(probe.client.info).version)
    if version < OLDEST:
        oldest = ".".join(map(str, OLDEST[:2]))
        raise UnsupportedError(
            f"Qdrant at {probe.url} has version {'.'.join(map(str, version))}",
            f"upgrade the server to {oldest} or newer",
        )
    probe.call(probe.client.get_collections)
    return version


def _parsed(version: str) -> Version:
    numbers = [int(number) for number in re.findall(r"\d+", version)[:3]]
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return major, minor, patch


def check_writable(connection: Connection, collection: str) -> None:
    """See that the credentials allow a migration, by two writes that change nothing.

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
                f"this API key may not {right}: {error.message}",
                "give a key with full access in the variable named by qdrant.api_key_env",
            ) from error


def _unless_malformed(request: Callable[[], object]) -> None:
    try:
        request()
    except SERVER_ERRORS as error:
        # Rights are checked first: with custom sharding, a delete without a key is answered 400.
        if status_of(error) != 400:
            raise


def _is_unconfirmed(result: models.UpdateResult | Sequence[models.UpdateResult]) -> bool:
    results = [result] if isinstance(result, models.UpdateResult) else result
    return any(each.status != models.UpdateStatus.COMPLETED for each in results)
