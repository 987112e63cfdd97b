"""Qdrant: the server's gRPC interface as bytes, for messages too large for protobuf's floats."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import grpc  # type: ignore[import-untyped]
from qdrant_client.connection import get_channel

from xbtmigrate.qdrant.wire.tls import Trust

PLAIN = {"grpc.compression_enabled_algorithms_bitset": 1}
"""Channel options that keep a server from compressing its answers.

It compresses them unless told otherwise, which takes 20 times as long as all the rest of reading.
"""


class Rpc:
    """Requests to one server over a channel of their own, opened by the first of them.

    Args:
        url: Address of the server's REST interface.
        port: Port of its gRPC interface.
        api_key: Key or JWT of the server.
        timeout: Seconds until one request is given up.
        trust: Certificates to trust.
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
        trust: Trust,
        trusted: bool,
    ) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname or "", port
        self._ssl = address.scheme == "https"
        self._metadata = [] if api_key is None else [("api-key", api_key)]
        self._timeout = timeout
        self._options = {**PLAIN, **trust.grpc_options}
        self._channel: grpc.Channel | None = None
        self._methods: dict[str, Any] = {}
        self.trusted = trusted

    def send(self, method: str, request: bytes, *, patience: float | None = None) -> bytes:
        """Call a method of the service qdrant.Points; `patience` shortens the timeout.

        Raises:
            grpc.RpcError: No answer came, or it is an error.
        """
        if self._channel is None:
            self._channel = get_channel(
                self._host, self._port, self._ssl, self._metadata, self._options
            )
        if method not in self._methods:
            self._methods[method] = self._channel.unary_unary(f"/qdrant.Points/{method}")
        answer: bytes = self._methods[method](request, timeout=patience or self._timeout)
        return answer

    def close(self) -> None:
        """Give up the channel."""
        if self._channel is not None:
            self._channel.close()
