"""Send bytes to a server over REST or gRPC, with the same certificates on both.

The client library turns every number of an answer into a Python float. Pages and writes bypass it
through `Rest` and `Rpc`, which know addresses, keys and timeouts, but nothing about points.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi
import grpc  # type: ignore[import-untyped]
import httpx
import orjson
import urllib3
from qdrant_client import AsyncQdrantClient, QdrantClient
from qdrant_client.connection import get_channel
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from xbtmigrate.errors import ConfigError

_PING_SECONDS = 5.0
PLAIN = {"grpc.compression_enabled_algorithms_bitset": 1}
"""Channel options that keep a server from compressing its answers.

By default it compresses them, which takes 20 times as long as all the rest of reading.
"""


@dataclass(frozen=True, slots=True)
class Certificates:
    """Certificates to trust: the user's file, that of SSL_CERT_FILE, or the default ones.

    Attributes:
        file: PEM file of certificate authorities; None for the usual ones.
    """

    file: str | None = None

    @classmethod
    def load(cls, ca_file: Path | None) -> Certificates:
        """Choose the file and check that it can be used.

        Raises:
            ConfigError: It cannot be read, or holds no certificate.
        """
        named = str(ca_file) if ca_file is not None else os.environ.get("SSL_CERT_FILE")
        certificates = cls(named or None)
        try:
            # Loaded here first, so that a wrong file is reported before a request fails.
            certificates.context()
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(
                f"the certificates in {named} cannot be used: {error}",
                "name a readable PEM file of certificate authorities in qdrant.ca_file",
            ) from error
        return certificates

    @property
    def path(self) -> str:
        """The chosen file, or else that of the default certificates."""
        return self.file or certifi.where()

    @property
    def grpc_options(self) -> dict[str, bytes]:
        """Options for gRPC channels; without a file gRPC uses its built-in certificates."""
        return {"root_certificates": Path(self.file).read_bytes()} if self.file else {}

    def context(self) -> ssl.SSLContext:
        """Return the TLS context for REST clients."""
        return _context(self.path)


@cache
def _context(file: str) -> ssl.SSLContext:
    """Load the certificates of a file once: it takes 40 ms, and each client needs them."""
    return ssl.create_default_context(cafile=file)


class Rest:
    """Requests to one server with the client's address, key, trusted certificates and timeout.

    urllib3 takes a quarter of the processor time that httpx takes for the same bytes. Answers are
    not compressed: compressing vectors costs the server more than sending them.

    Args:
        client: The client of the same server; gives the address.
        api_key: Key or JWT of the server.
        timeout: Seconds until one request is given up.
        certificates: Certificates of the authorities to trust.
        connections: Connections kept open, one for each thread that sends at the same time.
    """

    def __init__(
        self,
        client: QdrantClient | AsyncQdrantClient,
        api_key: str | None,
        timeout: float,
        certificates: Certificates,
        connections: int = 4,
    ) -> None:
        self.root = client.http.client.host.rstrip("/")
        self.headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if api_key is not None:
            self.headers["api-key"] = api_key
        address = urlsplit(self.root)
        # urllib3 ignores the environment's proxy variables, which the client library's httpx obeys;
        # both must reach the server by the same route.
        bypassed = proxy_bypass(address.netloc)
        self.proxy = None if bypassed else getproxies().get(address.scheme)
        self.certificates = certificates
        self._pool = self._opened(timeout, connections)

    def send(self, method: str, collection: str, path: str, body: object) -> bytes:
        """Send a request about a collection; its body may contain numpy arrays.

        Raises:
            ResponseHandlingException: No answer came, or a part of one.
            UnexpectedResponse: The answer is an error.
        """
        try:
            answer = self._pool.request(
                method,
                f"{self.root}/collections/{quote(collection, safe='')}/{path}",
                body=orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY),
                headers=self.headers,
                # A redirect does not come from Qdrant, and following it could send the
                # key to another host. Only `Connection` retries.
                redirect=False,
                retries=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise ResponseHandlingException(error) from error
        # The statuses that the client library treats as success.
        if answer.status not in (200, 201, 202):
            raise UnexpectedResponse(
                answer.status,
                answer.reason or "",
                answer.data,
                httpx.Headers(list(answer.headers.items())),
            )
        if not answer.data[-8:].rstrip().endswith(b"}"):
            # A proxy may cut an answer and announce the shorter length.
            cut = urllib3.exceptions.ProtocolError("the answer is cut short")
            raise ResponseHandlingException(cut)
        return answer.data

    def metrics(self) -> str:
        """Return the server's metrics in the text format of Prometheus, "" where it has none."""
        try:
            answer = self._pool.request(
                *("GET", f"{self.root}/metrics"),
                headers=self.headers,
                timeout=_PING_SECONDS,
                redirect=False,
                retries=False,
            )
        except urllib3.exceptions.HTTPError:
            return ""
        return answer.data.decode(errors="replace") if answer.status == 200 else ""

    def answers(self) -> bool:
        """Return whether a server answers within a few seconds."""
        try:
            answer = self._pool.request(
                "GET", self.root, headers=self.headers, timeout=_PING_SECONDS, retries=2
            )
        except urllib3.exceptions.HTTPError:
            return False
        return answer.status == 200

    def close(self) -> None:
        """Close the open connections."""
        self._pool.clear()

    def _opened(self, timeout: float, connections: int) -> urllib3.PoolManager:
        secure = self.root.startswith("https:")
        trusted = self.certificates.context() if secure else None
        if self.proxy:
            return urllib3.ProxyManager(
                self.proxy, timeout=timeout, ssl_context=trusted, maxsize=connections
            )
        return urllib3.PoolManager(timeout=timeout, ssl_context=trusted, maxsize=connections)


def raise_refusals(
    request: httpx.Request, send: Callable[[httpx.Request], httpx.Response]
) -> httpx.Response:
    """Raise a refusal before the client library does, which reads Retry-After only as seconds."""
    answer = send(request)
    if answer.status_code == 429:
        raise UnexpectedResponse.for_response(answer)
    return answer


class Rpc:
    """Requests to one server over a gRPC channel, opened by the first of them.

    Args:
        url: Address of the server's REST interface.
        port: Port of its gRPC interface.
        api_key: Key or JWT of the server.
        timeout: Seconds until one request is given up.
        certificates: Certificates of the authorities to trust.
        trusted: Whether the port certainly leads to the server of that address.

    Attributes:
        trusted: As given, or found out since.
    """

    def __init__(
        self,
        url: str,
        port: int,
        api_key: str | None,
        timeout: int,
        *,
        certificates: Certificates,
        trusted: bool,
    ) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname or "", port
        self._ssl = address.scheme == "https"
        self._metadata = [] if api_key is None else [("api-key", api_key)]
        self._timeout = timeout
        self._options = {**PLAIN, **certificates.grpc_options}
        self._channel: grpc.Channel | None = None
        self._methods: dict[str, Any] = {}
        self.trusted = trusted

    def send(self, method: str, request: bytes, *, seconds: float | None = None) -> bytes:
        """Call a method of the service qdrant.Points; `seconds` shortens the timeout.

        Raises:
            grpc.RpcError: No answer came, or it is an error.
        """
        if self._channel is None:
            self._channel = get_channel(
                self._host, self._port, self._ssl, self._metadata, self._options
            )
        if method not in self._methods:
            # Without serializers: requests and answers are bytes already.
            self._methods[method] = self._channel.unary_unary(f"/qdrant.Points/{method}")
        answer: bytes = self._methods[method](request, timeout=seconds or self._timeout)
        return answer

    def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            self._channel.close()
