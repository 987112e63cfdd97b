"""What a network does between the tool and Qdrant, at chosen requests of a run."""

from __future__ import annotations

import http.client
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum

from tests.support.proxy import JOURNAL_PATH, DroppedError, Proxy, Request

LATE_SECONDS = 0.7


class Event(StrEnum):
    """What happens at one request of a run."""

    DELAY = "delay"
    LOSE_REQUEST = "lose the request"
    LOSE_ANSWER = "lose the answer"
    ARRIVE_LATE = "arrive late"
    KILL_BEFORE = "kill the tool before"
    KILL_AFTER = "kill the tool after"
    KILL_SERVER = "kill the server"
    RIVAL = "a second run"
    QUIET = "the writers end"
    PEER_DIES = "a peer is killed"
    PEER_RETURNS = "the peer is started again"


@dataclass(slots=True)
class Network:
    """Lets events happen at the requests of one run after another.

    Attributes:
        proxy: The proxy whose hooks it takes.
        collection: The migrating collection.
        acts: What to do for kills and rivals.
        happened: Event -> how often it came to pass.
        last_pass: When the last pass over all points began, by `time.monotonic`.
        settled: When the last late request was through.
    """

    proxy: Proxy
    collection: str
    acts: Mapping[Event, Callable[[], None]]
    happened: dict[Event, int] = field(default_factory=dict)
    last_pass: float = 0.0
    settled: float = 0.0
    _events: Mapping[int, Event] = field(default_factory=dict)
    _seen: int = 0
    _late: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.proxy.before, self.proxy.after = self._before, self._after

    def begin(self, events: Mapping[int, Event]) -> None:
        """Begin a run whose n-th request meets these events."""
        with self._lock:
            self._events, self._seen = events, 0

    def settle(self) -> None:
        """Wait until everything that is late has arrived."""
        for thread in self._late:
            thread.join()

    def _before(self, request: Request) -> None:
        with self._lock:
            self._seen += 1
            event = self._events.get(self._seen)
        scrolls = request.path == f"/collections/{self.collection}/points/scroll"
        if scrolls and b'"offset"' not in request.body:
            self.last_pass = time.monotonic()
        if event is None or (event is Event.ARRIVE_LATE and not _may_be_late(request)):
            return
        self.happened[event] = self.happened.get(event, 0) + 1
        if event is Event.DELAY:
            time.sleep(0.3)
        elif event is Event.LOSE_REQUEST:
            raise DroppedError
        elif event is Event.ARRIVE_LATE:
            thread = threading.Thread(target=self._send_late, args=(request,), daemon=True)
            self._late.append(thread)
            thread.start()
            raise DroppedError
        elif event in _BESIDE:
            self.acts[event]()
        elif event in (Event.KILL_BEFORE, Event.KILL_SERVER):
            self.acts[event]()
            raise DroppedError
        else:
            # Only when Qdrant has done it.
            _LATER.event = event

    def _after(self, request: Request) -> None:
        event = getattr(_LATER, "event", None)
        _LATER.event = None
        if event is not None:
            if event is Event.KILL_AFTER:
                self.acts[event]()
            raise DroppedError

    def _send_late(self, request: Request) -> None:
        """What a server or a proxy had taken in is done after the client has given up."""
        time.sleep(LATE_SECONDS)
        address = self.proxy.target.removeprefix("http://")
        connection = http.client.HTTPConnection(address, timeout=30)
        with suppress(OSError, http.client.HTTPException):
            headers = {"content-type": "application/json"}
            connection.request(request.method, request.path, request.body, headers)
            connection.getresponse().read()
        connection.close()
        self.settled = time.monotonic()


_BESIDE = (Event.RIVAL, Event.QUIET, Event.PEER_DIES, Event.PEER_RETURNS)
_LATER = threading.local()


def _may_be_late(request: Request) -> bool:
    writes = request.method in ("PUT", "POST") and "/points" in request.path
    reads = request.path.endswith(("/scroll", "/count", "/points")) and request.method == "POST"
    return writes and not reads and not request.path.startswith(JOURNAL_PATH.rsplit("/", 2)[0])


@contextmanager
def rough_channel(target: tuple[str, int], rng: random.Random) -> Iterator[Channel]:
    """Pass bytes on to a TCP port, with pauses, and resets where they are allowed."""
    channel = Channel(target, rng)
    listener = socket.create_server(("127.0.0.1", 0))
    channel.port = listener.getsockname()[1]
    threading.Thread(target=channel.accept, args=(listener,), daemon=True).start()
    try:
        yield channel
    finally:
        listener.close()


@dataclass(slots=True)
class Channel:
    """One TCP port in front of another.

    Attributes:
        target: Where it leads.
        rng: Chooses when what happens.
        roughness: Chance of a reset for each piece that passes; of a pause five times that.
        resets: How often a connection was cut.
    """

    target: tuple[str, int]
    rng: random.Random
    roughness: float = 0.0
    resets: int = 0
    port: int = 0

    def accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                try:
                    server = socket.create_connection(self.target, timeout=30)
                except OSError:
                    client.close()
                    continue
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                chance = self.rng.random()
                if chance < self.roughness:
                    self.resets += 1
                    break
                if chance < 6 * self.roughness:
                    time.sleep(0.1)
                sink.sendall(piece)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
