"""Explain why no Qdrant answers at an address, and what to write in the configuration."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from xbtmigrate.errors import ConnectionFailedError, XbtMigrateError
from xbtmigrate.qdrant.wire.server_errors import server_message, status_of

PORT = 6333
"""What the client library takes where an address names no port."""
NOT_THERE = (301, 302, 307, 308, 400, 404, 405)
"""What other servers, proxies and pages answer where Qdrant would name its version."""
BROKEN_OFF = ("RemoteProtocolError", "ReadError", "HTTPS port")
"""How plain HTTP ends at a server, or at a proxy, that speaks TLS."""
UNKNOWN_HOST = ("Name or service not known", "nodename nor servname", "name resolution")
OWN_PATHS = ("dashboard", "collections", "telemetry", "cluster", "metrics")
"""Paths of a Qdrant: what people paste is the address of one of its pages."""


def explain(failure: XbtMigrateError, url: str, *, with_key: bool) -> XbtMigrateError:
    """Turn the failure of the first request to an address into an error that names the mistake.

    Args:
        failure: The failure in general words, raised from that of the client library.
        url: The address as it was given.
        with_key: Whether a key was sent.
    """
    error = failure.__cause__
    # The tool's own errors, such as that of a server too old, already name the way out.
    if error is None:
        return failure
    status, said = status_of(error), server_message(error)
    if isinstance(error, json.JSONDecodeError):
        return _not_there(url, "its answer is not JSON")
    if status in (401, 403):
        return _refused(url, said, with_key=with_key)
    # nginx answers plain HTTP on a TLS port with 400 and these words: `_silent` names that mistake.
    if status in NOT_THERE and "HTTPS port" not in said:
        return _not_there(url, said)
    if any(each in said for each in UNKNOWN_HOST):
        host = urlsplit(url).hostname
        return ConnectionFailedError(
            f"Qdrant at {url} does not answer: there is no host '{host}'",
            "correct the host in qdrant.url; `getent hosts` or `nslookup` shows what is known",
        )
    return _silent(failure, url, said)


def _refused(url: str, said: str, *, with_key: bool) -> ConnectionFailedError:
    if with_key:
        return ConnectionFailedError(
            f"Qdrant at {url} refused the credentials: {said}",
            "the key in the variable or file that qdrant.api_key_env or qdrant.api_key_file names "
            "is not one of this server: give its service.api_key, or a JWT made with it",
        )
    return ConnectionFailedError(
        f"Qdrant at {url} refused the credentials: no API key is given ({said})",
        'set qdrant.api_key_env = "QDRANT_API_KEY" and export that variable with the key, or name '
        "a file in qdrant.api_key_file",
    )


def _not_there(url: str, said: str) -> ConnectionFailedError:
    """Return the error for an answer not of Qdrant's API: a page, a prefix, another server."""
    parts = urlsplit(url)
    root, path = f"{parts.scheme}://{parts.netloc}", parts.path.strip("/")
    first, *_ = path.split("/")
    # The dashboard's pages are fragments, such as http://host:6333/dashboard#/collections.
    if first in OWN_PATHS or parts.fragment:
        return ConnectionFailedError(
            f"{url} is the address of a page of Qdrant, not of its interface",
            f'write qdrant.url = "{root}"',
        )
    if path:
        return ConnectionFailedError(
            f"what answers under the prefix '/{path}' of {root} is not Qdrant: {said[:100]}",
            f'write qdrant.url = "{root}", or the prefix under which a proxy passes Qdrant on',
        )
    return ConnectionFailedError(
        f"what answers at {url} is not Qdrant: {said[:100]}",
        "check the host, the port and the path of qdrant.url; Qdrant's own port is 6333",
    )


def _silent(failure: XbtMigrateError, url: str, said: str) -> XbtMigrateError:
    """Return the error for silence or another protocol: a wrong port, TLS or the lack of it."""
    parts = urlsplit(url)
    rest = url.partition("://")[2]
    if "WRONG_VERSION_NUMBER" in said or "record layer failure" in said:
        return ConnectionFailedError(
            f"what answers at {url} does not speak TLS: {said}",
            f'write qdrant.url = "http://{rest}"',
        )
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return ConnectionFailedError(
            f"the certificate of {url} is not trusted: {said}",
            "name the PEM file of the authority that signed it in qdrant.ca_file, and see that the "
            "host is the one that the certificate is made for",
        )
    if parts.scheme == "http" and any(each in said for each in BROKEN_OFF):
        return ConnectionFailedError(
            f"what answers at {url} does not seem to speak plain HTTP: {said}",
            f'if the server speaks TLS write qdrant.url = "https://{rest}"',
        )
    # Without a port the client library takes 6333 even for https, where a proxy usually has 443.
    if parts.port is None:
        usual = 443 if parts.scheme == "https" else 80
        return ConnectionFailedError(
            f"{failure.message}; qdrant.url names no port, so {PORT} was tried",
            f'name the port: qdrant.url = "{parts.scheme}://{parts.netloc}:{usual}{parts.path}" '
            f"behind a proxy, :{PORT} for Qdrant itself; and see that the server is running",
        )
    return failure
