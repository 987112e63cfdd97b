"""The REST interface as bytes trusts and fails like the client it stands beside."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import orjson
import pytest
from httpx import Headers
from pytest_httpserver import HTTPServer
from qdrant_client import QdrantClient
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
from werkzeug import Response

from tests.support.qdrant_server import free_port
from xbtmigrate.qdrant.wire.server_errors import is_transient, retry_after, server_message
from xbtmigrate.qdrant.wire.transport import Certificates, Rest


def rest_of(url: str, **settings: object) -> Rest:
    client = QdrantClient(url=url, check_compatibility=False)
    key, timeout = settings.pop("api_key", None), settings.pop("timeout", 5)
    return Rest(client, key, timeout, Certificates.load(None))  # type: ignore[arg-type]


def test_path_prefix_key_and_body_arrive(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/behind/proxy/collections/a%2Fb/points").respond_with_data("{}")
    httpserver.expect_request("/behind/proxy/collections/a/b/points").respond_with_data("{}")
    rest = rest_of(httpserver.url_for("/behind/proxy"), api_key="secret")
    assert rest.send("POST", "a/b", "points", {"ids": [1]}) == b"{}"
    request, _ = httpserver.log[0]
    assert request.environ["REQUEST_URI"] == "/behind/proxy/collections/a%2Fb/points"
    assert request.headers["api-key"] == "secret"
    assert orjson.loads(request.data) == {"ids": [1]}


def test_nobody_answers() -> None:
    rest = rest_of(f"http://127.0.0.1:{free_port()}")
    assert not rest.answers()
    with pytest.raises(ResponseHandlingException) as caught:
        rest.send("POST", "c", "points", {})
    assert is_transient(caught.value)


def test_a_refusal_keeps_status_and_words(httpserver: HTTPServer) -> None:
    words = {"status": {"error": "Bad request: no such vector"}}
    httpserver.expect_request("/collections/c/points").respond_with_json(words, status=400)
    with pytest.raises(UnexpectedResponse) as caught:
        rest_of(httpserver.url_for("/")).send("POST", "c", "points", {})
    assert caught.value.status_code == 400
    assert caught.value.structured() == words
    assert not is_transient(caught.value)


@pytest.mark.parametrize(
    ("named", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("-5", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_server_under_load_says_how_long_to_wait(
    httpserver: HTTPServer, named: str | None, seconds: float | None, status: int
) -> None:
    headers = {} if named is None else {"Retry-After": named}
    httpserver.expect_request("/collections/c/points").respond_with_response(
        Response('{"status": {"error": "slow down"}}', status, headers)
    )
    with pytest.raises(UnexpectedResponse) as caught:
        rest_of(httpserver.url_for("/")).send("POST", "c", "points", {})
    assert is_transient(caught.value)
    assert server_message(caught.value) == "slow down"
    assert retry_after(caught.value) == seconds


def test_a_date_to_come_back_at_is_obeyed() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    refusal = UnexpectedResponse(429, "", b"", Headers({"retry-after": later}))
    assert 25 < retry_after(refusal) <= 30


def test_an_answer_that_was_cut_short_may_be_another_one_next_time(httpserver: HTTPServer) -> None:
    cut = '{"result": {"points": [{"id": 1'
    httpserver.expect_request("/collections/c/points").respond_with_data(cut)
    with pytest.raises(ResponseHandlingException, match="cut short") as caught:
        rest_of(httpserver.url_for("/")).send("POST", "c", "points", {})
    assert is_transient(caught.value)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate that nobody has signed; its key lies beside it."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    command += " -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    return tmp_path / "cert.pem"


@pytest.fixture
def secure(certificate: Path) -> Iterator[HTTPServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    with HTTPServer(host="localhost", ssl_context=context) as server:
        server.expect_request("/collections/c/points").respond_with_data("{}")
        yield server


def test_a_stranger_is_not_trusted(secure: HTTPServer) -> None:
    with pytest.raises(ResponseHandlingException, match="CERTIFICATE_VERIFY_FAILED"):
        rest_of(secure.url_for("/")).send("POST", "c", "points", {})


def test_a_certificate_that_the_client_trusts_is_trusted(
    secure: HTTPServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert rest_of(secure.url_for("/")).send("POST", "c", "points", {}) == b"{}"


def test_a_proxy_of_the_environment_is_used(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    httpserver.expect_request("/collections/c/points").respond_with_data("{}")
    monkeypatch.setenv("http_proxy", httpserver.url_for("/"))
    monkeypatch.setenv("no_proxy", "")
    assert rest_of("http://qdrant.invalid:6333").send("POST", "c", "points", {}) == b"{}"
    assert httpserver.log[0][0].host == "qdrant.invalid:6333"
