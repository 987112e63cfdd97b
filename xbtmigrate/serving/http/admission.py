"""Admit or refuse an HTTP request before any of its body is parsed.

Host, key, size and time are checked on the raw request, cheapest first, so an unauthorized request
costs one header, and an endless body one timer.
"""

from __future__ import annotations

import asyncio
import hmac
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from xbtmigrate.serving.http.schemas import ErrorResponse

KEY = "api-key"
"""Header of the key."""
MAX_BYTES = 4 * 2**20
"""Largest body of a request."""
HEAD_SECONDS = 10.0
"""Longest time that a connection may take to send a request head."""
_OPEN = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json"})
_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})


class _RefusedError(Exception):
    """A request is refused; carries the response."""

    def __init__(self, status: int, error: str, hint: str) -> None:
        super().__init__(error)
        self.answer = error_response(status, error, hint)
        # The rest of the body is not read, so the connection cannot be reused.
        self.answer.headers["connection"] = "close"


@dataclass(frozen=True, slots=True)
class Admission:
    """Middleware that refuses a request by its host, key, size or time.

    Attributes:
        app: The application behind it.
        api_key: What requests must carry; None where only this machine can connect.
    """

    app: ASGIApp
    api_key: str | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on with its whole body."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            self._check(Headers(scope=scope), scope["path"])
            body = await _read_body(receive, scope["app"].state.backend.seconds)
        except _RefusedError as refused:
            await refused.answer(scope, receive, send)
            return
        await self.app(scope, _replay(body, receive), send)

    def _check(self, headers: Headers, path: str) -> None:
        if self.api_key is None:
            # A page that a browser here has open can resolve its own name to this machine (DNS
            # rebinding); its requests then come from here, but name another host.
            if _host_of(headers) not in _LOCAL:
                raise _RefusedError(
                    403,
                    "the Host header does not name this machine",
                    "connect to 127.0.0.1 or localhost, or give the service a key",
                )
        elif path not in _OPEN:
            # In constant time: the time of a refusal must not reveal how much of a key is right.
            given = headers.get(KEY, "").encode("latin-1")
            if not hmac.compare_digest(given, self.api_key.encode()):
                raise _RefusedError(
                    401,
                    "the API key is missing or wrong",
                    f"send the service's key in the header {KEY}",
                )


class PromptProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """Uvicorn's protocol, which also closes connections that send no complete request head.

    Open connections count towards the limit of requests, so idle ones would block others.
    """

    def connection_made(self, transport: Any) -> None:
        """Start watching a connection."""
        super().connection_made(transport)
        self._watch = self.loop.call_later(HEAD_SECONDS, self._look, None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        self._watch.cancel()
        super().connection_lost(exc)

    def _look(self, idle_since: Any) -> None:
        """Close the connection if no request has begun since the last call.

        Args:
            idle_since: The last request at that call, None for none; itself if it was under way.
        """
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self.cycle is idle_since:
            self.transport.close()
            return
        # `self` marks a busy connection, which is closed only after a whole interval
        # in which it is idle.
        self._watch = self.loop.call_later(HEAD_SECONDS, self._look, self.cycle if idle else self)


def error_response(status: int, error: str, hint: str) -> JSONResponse:
    """Make the response to a refused request: what is wrong, and what to do."""
    return JSONResponse(ErrorResponse(error=error, hint=hint).model_dump(), status)


def _host_of(headers: Headers) -> str | None:
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname
    except ValueError:
        # Malformed, such as an unclosed bracket: refused like any foreign host.
        return None


async def _read_body(receive: Receive, seconds: float) -> bytes:
    """Read the whole body, of at most `MAX_BYTES` and within `seconds`."""
    body, more = bytearray(), True
    try:
        async with asyncio.timeout(seconds):
            while more:
                message = await receive()
                body += message.get("body", b"")
                more = message.get("more_body", False)
                # Counted as it arrives, because a chunked body does not give its length first.
                if len(body) > MAX_BYTES:
                    raise _RefusedError(
                        413, f"a body has at most {MAX_BYTES} bytes", "send fewer items at a time"
                    )
    except TimeoutError as error:
        raise _RefusedError(
            408, f"the body did not arrive within {seconds:g} s", "send it at once"
        ) from error
    return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Replay the body that was read, then pass on what follows."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return first.pop() if first else await receive()

    return next_message
