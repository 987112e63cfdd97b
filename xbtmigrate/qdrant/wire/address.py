"""Explain why no Qdrant answers at an address, and what to write in the configuration."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from xbtmigrate.errors import ConnectionFailedError, XbtMigrateError
from xbtmigrate.qdrant.wire.server_errors import server_message, status_of

PORT = 6333
"""Port of the client library for an address without one."""
NOT_THERE = (301, 302, 307, 308, 400, 404, 405)
"""Statuses of other servers, proxies and pages where Qdrant would return its version."""
BROKEN_OFF = ("RemoteProtocolError", "ReadError", "HTTPS port")
"""Errors of plain HTTP at a server, or a proxy, that speaks TLS."""
UNKNOWN_HOST = ("Name or service not known", "nodename nor servname", "name resolution")
OWN_PATHS = ("dashboard", "collections", "telemetry", "cluster", "metrics")
"""Pages of Qdrant, whose addresses people paste by mistake."""


def explain(failure: XbtMigrateError, url: str, *, with_key: bool) -> XbtMigrateError:
    """Turn the failure of the first request into an error that names the mistake in the address.

    Args:
        failure: The failure in general words, raised from that of the client library.
        url: The address as it was given.
        with_key: Whether a key was sent.
    """
    error = failure.__cause__
    # The tool's own errors, such as for an old server, already have a hint.
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
            "the key named by qdrant.api_key_env or qdrant.api_key_file does not belong to this "
            "server: give its service.api_key, or a JWT signed with it",
        )
    return ConnectionFailedError(
        f"Qdrant at {url} refused the credentials: no API key is given ({said})",
        'set qdrant.api_key_env = "QDRANT_API_KEY" and export that variable with the key, or name '
        "a file in qdrant.api_key_file",
    )


def _not_there(url: str, said: str) -> ConnectionFailedError:
    """Return the error for an answer not from Qdrant's API: a page, a prefix, another server."""
    parts = urlsplit(url)
    root, path = f"{parts.scheme}://{parts.netloc}", parts.path.strip("/")
    first, *_ = path.split("/")
    # The dashboard's pages are fragments, such as http://host:6333/dashboard#/collections.
    if first in OWN_PATHS or parts.fragment:
        return ConnectionFailedError(
            f"{url} is the address of one of Qdrant's pages, not of its API",
            f'write qdrant.url = "{root}"',
        )
    if path:
        return ConnectionFailedError(
            f"what answers under the prefix '/{path}' of {root} is not Qdrant: {said[:100]}",
            f'write qdrant.url = "{root}", or the prefix under which a proxy serves Qdrant',
        )
    return ConnectionFailedError(
        f"what answers at {url} is not Qdrant: {said[:100]}",
        "check the host, the port and the path of qdrant.url; Qdrant's own port is 6333",
    )


def _silent(failure: XbtMigrateError, url: str, said: str) -> XbtMigrateError:
    """Return the error for no answer or another protocol: a wrong port, with or without TLS."""
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
            "name the PEM file of the authority that signed it in qdrant.ca_file, and check that "
            "the host is the one in the certificate",
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
            f"{failure.message}; qdrant.url names no port, so port {PORT} was tried",
            f'name the port: qdrant.url = "{parts.scheme}://{parts.netloc}:{usual}{parts.path}" '
            f"behind a proxy, :{PORT} for Qdrant itself; and check that the server is running",
        )
    return failure
