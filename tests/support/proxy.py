"""A proxy in front of Qdrant, so that a test can act at an exact request of a run."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

JOURNAL_PATH = "/collections/_xbtmigrate/points/payload"


class DroppedError(Exception):
    """Raised by a hook: the client gets no answer, its connection is closed."""


class ResetError(Exception):
    """Raised by a hook: the client gets no answer, its connection is reset."""


class TruncatedError(Exception):
    """Raised by a hook behind the request: the client gets half of the answer."""


class RefusedError(Exception):
    """Raised by a hook: the client is refused, and may be told when to come back."""

    def __init__(self, retry_after: str | None, status: int = 429) -> None:
        self.headers = [] if retry_after is None else [("Retry-After", retry_after)]
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the client."""

    method: str
    path: str
    body: bytes

    @property
    def stage(self) -> str | None:
        """Stage of the backfill that this request stores in the journal, if it stores one."""
        if not (self.path.startswith(JOURNAL_PATH) and self.method == "POST"):
            return None
        return json.loads(self.body)["payload"].get("stage")


@dataclass(slots=True)
class Proxy:
    """Passes every request on, and tells hooks of it before and after Qdrant has done it."""

    target: str
    url: str = ""
    before: Callable[[Request], None] = lambda _: None
    after: Callable[[Request], None] = lambda _: None


@dataclass(slots=True)
class Strike:
    """Acts once: at the n-th request after the journal was told of a stage ("" for the start).

    Attributes:
        proxy: The proxy whose hooks it takes.
        stage: Stage to wait for.
        requests: Which request of that stage.
        after: Act when Qdrant has done the request, else before it gets it.
        act: What to do; a `DroppedError` of it leaves the client without an answer.
        done: Set when it has acted.
    """

    proxy: Proxy
    stage: str
    requests: int
    after: bool
    act: Callable[[], None]
    done: threading.Event = field(default_factory=threading.Event)
    _present: str = ""
    _seen: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.proxy.before = self.proxy.after = lambda _: None
        if self.after:
            self.proxy.after = self._look
        else:
            self.proxy.before = self._look

    def _look(self, request: Request) -> None:
        with self._lock:
            self._present = request.stage or self._present
            self._seen += self._present == self.stage
            if self._seen < self.requests or self.done.is_set():
                return
            self.done.set()
        self.act()


@contextmanager
def proxied(target: str) -> Iterator[Proxy]:
    """Run a proxy to `target`, such as http://127.0.0.1:6333."""
    proxy = Proxy(target)

    class Handler(_Handler):
        passes_to = proxy

    server = _QuietServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _QuietServer(ThreadingHTTPServer):
    """Says nothing of clients that were killed."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client, with one of its own to the target."""

    passes_to: Proxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def setup(self) -> None:
        super().setup()
        address = self.passes_to.target.removeprefix("http://")
        self._upstream = http.client.HTTPConnection(address, timeout=60)

    def finish(self) -> None:
        self._upstream.close()
        super().finish()

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(self.command, self.path, body)
        try:
            self.passes_to.before(request)
            headers = {key: value for key, value in self.headers.items() if key != "Host"}
            self._upstream.request(request.method, request.path, body or None, headers)
            answer = self._upstream.getresponse()
            content = answer.read()
            self.passes_to.after(request)
        except RefusedError as refused:
            said = b'{"status": {"error": "rate limit exceeded"}, "time": 0}'
            self._answer(refused.status, refused.headers, said)
        except TruncatedError:
            self._answer(answer.status, answer.getheaders(), content, sent=len(content) // 2)
            self.close_connection = True
        except ResetError:
            # Closed with this option, a connection is not ended but reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        except (DroppedError, OSError, http.client.HTTPException):
            self.close_connection = True
        else:
            self._answer(answer.status, answer.getheaders(), content)

    def _answer(
        self,
        status: int,
        headers: list[tuple[str, str]],
        content: bytes,
        *,
        sent: int | None = None,
    ) -> None:
        self.send_response_only(status)
        for key, value in headers:
            if key.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:sent])

    def log_message(self, *_: object) -> None:
        """Stay silent."""


for _method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
    setattr(_Handler, f"do_{_method}", _Handler._pass_on)
