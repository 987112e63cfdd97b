"""Each common mistake in an address or a key ends in what is wrong and what to write instead."""

from __future__ import annotations

import re
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pytest_httpserver import HTTPServer
from qdrant_client.http.exceptions import UnexpectedResponse

from tests.support.qdrant_server import free_port
from xbtmigrate.errors import ConnectionFailedError, UnsupportedError
from xbtmigrate.qdrant.wire.connect import connect
from xbtmigrate.qdrant.wire.server_errors import translate_error


def refused(url: str, key: str | None = None) -> ConnectionFailedError:
    with pytest.raises(ConnectionFailedError) as error:
        connect(url, api_key=key)
    assert error.value.hint
    return error.value


@pytest.fixture
def qdrant(httpserver: HTTPServer) -> str:
    """A server that knows its root and nothing else, and wants a key."""
    httpserver.expect_request("/").respond_with_data("Must provide an API key", status=401)
    httpserver.expect_request("/page/").respond_with_data("<html>welcome</html>")
    httpserver.expect_request(re.compile("/(?!page).+")).respond_with_data("", status=404)
    return httpserver.url_for("").rstrip("/")


@pytest.mark.parametrize("page", ["/dashboard", "/dashboard#/collections", "/collections/packages"])
def test_a_pasted_page(qdrant: str, page: str):
    error = refused(qdrant + page)
    assert "of Qdrant's pages" in error.message
    assert f'"{qdrant}"' in error.hint


def test_a_wrong_prefix_and_another_server(qdrant: str, httpserver: HTTPServer):
    error = refused(f"{qdrant}/vectors")
    assert "prefix '/vectors'" in error.message
    assert f'"{qdrant}"' in error.hint
    assert "not JSON" in refused(f"{qdrant}/page").message
    httpserver.clear()
    httpserver.expect_request("/").respond_with_data("<html>welcome</html>")
    assert "is not Qdrant: its answer is not JSON" in refused(qdrant).message


def test_a_key_that_is_missing_or_wrong(qdrant: str):
    missing, wrong = refused(qdrant), refused(qdrant, "wrong")
    assert "no API key is given" in missing.message
    assert "export" in missing.hint
    assert "refused the credentials" in wrong.message
    assert "api_key_file" in wrong.hint


def test_no_port_and_no_host():
    error = refused("https://127.0.0.1")
    assert "names no port, so port 6333 was tried" in error.message
    assert '"https://127.0.0.1:443"' in error.hint
    assert "names no port" not in refused(f"http://127.0.0.1:{free_port()}").message
    assert "no host 'absent.invalid'" in refused("http://absent.invalid:6333").message


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[str]:
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    command += " -keyout key.pem -out cert.pem"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with HTTPServer(host="localhost", ssl_context=context) as server:
        yield f"localhost:{server.port}"


def test_tls_by_mistake_and_its_lack(qdrant: str, secure: str):
    error = refused(qdrant.replace("http:", "https:"))
    assert "does not speak TLS" in error.message
    assert f'"{qdrant}"' in error.hint
    error = refused(f"http://{secure}")
    assert "does not seem to speak plain HTTP" in error.message
    assert f'"https://{secure}"' in error.hint
    error = refused(f"https://{secure}")
    assert "certificate" in error.message
    assert "qdrant.ca_file" in error.hint


@pytest.mark.parametrize(
    ("status", "said", "helps"),
    [
        (429, "Rate limiting exceeded: Write rate limit exceeded, retry later", True),
        (429, "Write rate limit exceeded, request larger than rate limiter capacity", False),
        (400, "Bad request: Exact search disabled!. Help: Set exact=false.", False),
    ],
)
def test_waiting_is_advised_only_where_it_helps(status: int, said: str, helps: bool):
    body = f'{{"status": {{"error": "{said}"}}}}'.encode()
    error = translate_error(UnexpectedResponse(status, "", body, httpx.Headers()), "http://h:6333")
    assert isinstance(error, ConnectionFailedError if helps else UnsupportedError)
    assert ("waiting does not help" in error.hint) is not helps
    assert "strict_mode_config" in error.hint
