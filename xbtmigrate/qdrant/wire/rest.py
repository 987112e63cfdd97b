"""Qdrant: the server's REST interface as bytes, for answers too large for model objects."""

from __future__ import annotations

from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx
import orjson
import urllib3
from qdrant_client import QdrantClient
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from xbtmigrate.qdrant.wire.tls import Trust

_PATIENCE = 5.0
_CONNECTIONS = 4
"""Kept open: one for each thread that reads or writes, lest each request opens its own."""


class Rest:
    """Requests to one server with the client's address, key, trusted certificates and timeout.

    urllib3 takes a quarter of the processor time that httpx takes for the same bytes. Answers come
    uncompressed: to compress vectors costs the server more than to send them.

    Args:
        client: The client of the same server; gives the address.
        api_key: Key or JWT of the server.
        timeout: Seconds until one request is given up.
        trust: Certificates to trust.
    """

    def __init__(
        self, client: QdrantClient, api_key: str | None, timeout: int, trust: Trust
    ) -> None:
        self.root = client.http.client.host.rstrip("/")
        self.headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if api_key is not None:
            self.headers["api-key"] = api_key
        address = urlsplit(self.root)
        bypassed = proxy_bypass(address.netloc)
        self.proxy = None if bypassed else getproxies().get(address.scheme)
        self.trust = trust
        self._pool = self._opened(timeout)

    def send(self, method: str, collection: str, path: str, body: object) -> bytes:
        """Send a request about a collection; arrays of numpy may be anywhere in its body.

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
                redirect=False,
                retries=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise ResponseHandlingException(error) from error
        if answer.status not in (200, 201, 202):
            raise UnexpectedResponse(
                answer.status,
                answer.reason or "",
                answer.data,
                httpx.Headers(list(answer.headers.items())),
            )
        if not answer.data[-8:].rstrip().endswith(b"}"):
            # A proxy may cut an answer and announce the length that is left.
            cut = urllib3.exceptions.ProtocolError("the answer is cut short")
            raise ResponseHandlingException(cut)
        return answer.data

    def answers(self) -> bool:
        """Say whether a server answers, without waiting long."""
        try:
            answer = self._pool.request(
                "GET", self.root, headers=self.headers, timeout=_PATIENCE, retries=2
            )
        except urllib3.exceptions.HTTPError:
            return False
        return answer.status == 200

    def close(self) -> None:
        """Give up the open connections."""
        self._pool.clear()

    def _opened(self, timeout: int) -> urllib3.PoolManager:
        secure = self.root.startswith("https:")
        trusted = self.trust.context() if secure else None
        if self.proxy:
            return urllib3.ProxyManager(
                self.proxy, timeout=timeout, ssl_context=trusted, maxsize=_CONNECTIONS
            )
        return urllib3.PoolManager(timeout=timeout, ssl_context=trusted, maxsize=_CONNECTIONS)
