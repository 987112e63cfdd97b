"""What a stranger, or a friend with a strange request, cannot make the service do."""

from __future__ import annotations

import base64
import io
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from PIL import Image

from tests.support.tiny_clip import data_uri, png
from xbtmigrate.errors import UnreadableSourceError
from xbtmigrate.migration.phases import Phase
from xbtmigrate.serving.engine import Answer, Question
from xbtmigrate.serving.http import admission
from xbtmigrate.serving.http.app import AT_A_TIME, Backend, create_app
from xbtmigrate.serving.http.request_images import MAX_PIXELS
from xbtmigrate.serving.http.schemas import MAX_NESTING
from xbtmigrate.serving.http.service_metrics import Metrics
from xbtmigrate.types import Modality
from xbtmigrate.workflows.serve.serve import LockedEncoder

KEY = {"api-key": "a-key"}
SPACE = SimpleNamespace(size=4)


class Seeing:
    """An encoder that remembers what it is handed."""

    fingerprint, dimension = "seeing", 4

    def __init__(self, *, seconds: float = 0.0) -> None:
        self.handed: list[str] = []
        self._seconds = seconds

    def encode(self, items: Sequence[str], modality: Modality, *, ids: Any = None) -> np.ndarray:
        del modality, ids
        self.handed += items
        time.sleep(self._seconds)
        return np.ones((len(items), 4), np.float32)


class Searcher:
    """A searcher that finds nothing."""

    def __init__(self) -> None:
        self.asked: list[Question] = []
        situation = SimpleNamespace(new=SPACE, old=SPACE, phase=Phase.BACKFILLED)
        self.new = SimpleNamespace(situation=situation, problem="")

    async def answer(self, question: Question) -> Answer:
        self.asked.append(question)
        return Answer([], "keep")

    async def settle(self) -> None:
        pass


class Service:
    """The application on a free port, with what it stands on."""

    def __init__(self, http: httpx.Client, port: int, searcher: Searcher, encoder: Seeing) -> None:
        self.http, self.port, self.searcher, self.encoder = http, port, searcher, encoder

    def post(self, route: str, body: Any) -> httpx.Response:
        return self.http.post(route, json=body)


@contextmanager
def served(*, key: str | None = "a-key", seconds: float = 5.0, slow: float = 0.0):
    searcher, encoder = Searcher(), Seeing(seconds=slow)

    async def close() -> None:
        pass

    async def start() -> Backend:
        return Backend(searcher, {"new": encoder}, Metrics(), seconds, close)

    config = uvicorn.Config(
        create_app(start, key), port=0, log_level="error", http=admission.PromptProtocol
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=KEY, timeout=30) as http:
            yield Service(http, port, searcher, encoder)
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with served() as running:
        yield running


def refused(answer: httpx.Response, status: int = 422) -> str:
    """Check that an answer is one short refusal; returns its words."""
    assert answer.status_code == status, answer.text[:500]
    assert len(answer.content) < 2_000
    said = answer.json()
    assert set(said) == {"error", "hint"}
    assert said["error"]
    assert said["hint"]
    return said["error"]


def nested(depth: int) -> dict[str, Any]:
    content: dict[str, Any] = {"must": []}
    for _ in range(depth):
        content = {"must": content}
    return content


def bilevel(side: int) -> str:
    """A picture of one-bit pixels: a few kilobytes, whatever its size."""
    content = io.BytesIO()
    Image.new("1", (side, side)).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


@pytest.fixture
def picture() -> Iterator[Path]:
    """An image whose path is made of letters and slashes alone, as base64 is."""
    path = Path(tempfile.gettempdir(), f"picture{os.getpid()}")
    path.write_bytes(png("red"))
    yield path
    path.unlink()


def test_an_image_is_bytes_and_never_the_path_of_a_file(service, picture):
    for given in (str(picture), "/etc/passwd", "/proc/self/environ", "http:/127.0.0.1/a", "a/../b"):
        for route, body in (("/search", {"image": given}), ("/embed", {"images": [given]})):
            refused(service.post(route, body))
    assert service.encoder.handed == []
    assert service.searcher.asked == []


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_an_encoder_is_handed_data_uris_alone(service, kind):
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, kind)
    bare = base64.b64encode(content.getvalue()).decode()
    lines = "\r\n".join(bare[at : at + 76] for at in range(0, len(bare), 76))
    uri = f"data:image/{kind.lower()};base64,{bare}"
    service.encoder.handed.clear()
    answer = service.post("/embed", {"images": [bare, lines, uri, f"data:image/x;base64,{bare}"]})
    assert answer.status_code == 200, answer.text
    assert service.encoder.handed == [uri] * 4
    assert service.post("/search", {"image": bare}).status_code == 200
    assert service.searcher.asked[-1].image == uri


def test_the_pixels_of_a_request_are_bounded_together(service):
    service.encoder.handed.clear()
    said = refused(service.post("/embed", {"images": [bilevel(7000)] * 64}))
    assert str(MAX_PIXELS) in said
    refused(service.post("/search", {"image": bilevel(7100)}))
    assert service.encoder.handed == []
    assert service.post("/embed", {"images": [bilevel(3000)] * 5}).status_code == 200


def test_what_is_encoded_ends_soon_after_the_time_is_up():
    with served(seconds=0.3, slow=0.25) as slow:
        refused(slow.post("/embed", {"texts": ["a"] * 64}), 504)
        time.sleep(0.6)
        assert len(slow.encoder.handed) <= 2 * AT_A_TIME


def test_a_query_whose_time_is_up_does_not_wait_for_the_model():
    encoder = LockedEncoder(Seeing(seconds=0.5), 0.05)
    first = threading.Thread(target=encoder.encode, args=(["a"], Modality.TEXT))
    first.start()
    time.sleep(0.1)
    with pytest.raises(Exception, match="busy"):
        encoder.encode(["b"], Modality.TEXT)
    first.join()
    assert len(encoder.encode(["c"], Modality.TEXT)) == 1


MANY = 200_000
LARGE: dict[str, Callable[[], dict[str, Any]]] = {
    "unknown keys": lambda: {"text": "a"} | {f"key{number}": 1 for number in range(MANY)},
    "one long key": lambda: {"text": "a", "k" * 10**6: 1},
    "vector of words": lambda: {"vector": ["a"] * MANY},
    "vector too long": lambda: {"vector": [0.5] * MANY},
    "payload fields": lambda: {"text": "a", "with_payload": ["f"] * MANY},
    "payload fields of numbers": lambda: {"text": "a", "with_payload": [1] * MANY},
    "filter of wrong conditions": lambda: {"text": "a", "filter": {"must": [{"a": 1}] * 900}},
    "filter of many conditions": lambda: {"text": "a", "filter": {"must": [{}] * MANY}},
    "filter with a long key": lambda: {"text": "a", "filter": {"k" * 10**6: 1}},
    "long text": lambda: {"text": "a" * 10**6},
    "deep filter": lambda: {"text": "a", "filter": nested(200)},
    "deep wrong filter": lambda: {"text": "a", "filter": nested(MAX_NESTING - 2) | {"x": 1}},
    "wrong items": lambda: {"text": "a", "image": ["a"] * MANY, "limit": "x", "offset": "y"},
}


@pytest.mark.parametrize("name", LARGE)
def test_a_large_mistake_costs_little_and_is_said_in_short(service, name):
    body = json.dumps(LARGE[name]()).encode()
    started = time.perf_counter()
    answer = service.http.post(
        "/search", content=body, headers={"content-type": "application/json"}
    )
    refused(answer)
    assert time.perf_counter() - started < 1.0


@pytest.mark.parametrize("body", [b"[" * 10**6, b'{"a":' * 10**5, b"1" * 10**6, b"\xff", b""])
def test_a_body_that_cannot_be_parsed_is_refused(service, body):
    answer = service.http.post(
        "/search", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code in (400, 422)
    assert len(answer.content) < 2_000


def test_a_filter_of_the_most_levels_is_taken(service):
    filtered = {"text": "a", "filter": nested(MAX_NESTING - 2)}
    assert service.post("/search", filtered).status_code == 200


def begun(port: int, sent: bytes) -> tuple[float, bytes]:
    """Send a part of a request; returns when the other side closed, and what it said."""
    started = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
        line.sendall(sent)
        said = b""
        while more := line.recv(65536):
            said += more
    return time.perf_counter() - started, said


HEAD = b"POST /search HTTP/1.1\r\nhost: 127.0.0.1\r\napi-key: %s\r\ncontent-length: 1000\r\n\r\n{"


def test_a_body_that_does_not_arrive_is_given_up():
    with served(seconds=0.3) as hasty:
        seconds, said = begun(hasty.port, HEAD % b"a-key")
    assert said.startswith(b"HTTP/1.1 408")
    assert seconds < 3


def test_the_key_is_checked_before_the_body_arrives():
    with served(seconds=60) as patient:
        seconds, said = begun(patient.port, HEAD % b"wrong")
    assert said.startswith(b"HTTP/1.1 401")
    assert seconds < 3


@pytest.mark.parametrize("sent", [b"", b"POST /search HTTP/1.1\r\nhost: ", b"GET /healthz HTTP"])
def test_a_connection_that_sends_no_request_is_closed(monkeypatch, sent):
    monkeypatch.setattr(admission, "HEAD_SECONDS", 0.2)
    with served() as running:
        seconds, said = begun(running.port, sent)
        assert (said, seconds < 3) == (b"", True)
        assert running.http.get("/healthz").status_code == 200
        whole = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\nGET /heal"
        seconds, said = begun(running.port, whole)
        assert said.startswith(b"HTTP/1.1 200")
        assert seconds < 3


def test_a_request_that_takes_long_is_not_taken_for_none(monkeypatch):
    monkeypatch.setattr(admission, "HEAD_SECONDS", 0.1)
    with served(slow=0.6) as running:
        assert running.post("/embed", {"texts": ["a"]}).status_code == 200


def test_a_body_has_a_largest_size(service):
    answer = service.http.post("/search", content=b" " * (admission.MAX_BYTES + 1))
    assert str(admission.MAX_BYTES) in refused(answer, 413)


@pytest.mark.parametrize("route", ["/search", "/embed", "/metrics", "/absent", "/docs/absent"])
def test_all_but_the_open_routes_need_the_key(service, route):
    for key in ("", "A-KEY", "a-key-", "schlüssel".encode()):
        refused(service.http.post(route, content=b"{", headers={"api-key": key}), 401)
    for health in ("/healthz", "/openapi.json", "/docs"):
        assert service.http.get(health, headers={"api-key": ""}).status_code == 200


def test_without_a_key_the_host_must_be_this_machine():
    with served(key=None) as local:
        port = local.port
        for host in ("127.0.0.1", "localhost", f"localhost:{port}", f"[::1]:{port}", "LOCALHOST"):
            assert local.http.get("/healthz", headers={"host": host}).status_code == 200
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "", "[::1"):
            for route in ("/healthz", "/search", "/openapi.json"):
                refused(local.http.get(route, headers={"host": host}), 403)


def test_data_uri_of_the_tests_is_an_image(service):
    assert service.post("/embed", {"images": [data_uri("red")]}).status_code == 200


def test_models_are_loaded_before_the_service_is_ready():
    from xbtmigrate.workflows.serve import serve

    class Absent(Seeing):
        def encode(self, items, modality, *, ids=None):
            super().encode(items, modality)
            raise UnreadableSourceError({0: "not in the file"})

    encoder = Absent()
    models = SimpleNamespace(new=encoder, old=encoder)
    serve._encoders(models, serve.Service())
    assert len(encoder.handed) == 2
