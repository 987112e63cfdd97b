"""Decide which failures are worth a retry, and translate the others into the tool's errors."""

from __future__ import annotations

import json
import sqlite3

import grpc  # type: ignore[import-untyped]
import httpx
import urllib3
from pydantic import ValidationError
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import (
    ApiException,
    ResponseHandlingException,
    UnexpectedResponse,
)

from xbtmigrate.errors import (
    CollectionError,
    ConnectionFailedError,
    UnsupportedError,
    XbtMigrateError,
)

# JSONDecodeError: the answer was cut short, or is from a proxy or another server.
SERVER_ERRORS = (ApiException, QdrantException, grpc.RpcError, json.JSONDecodeError)
EMBEDDED_ERRORS = (ValueError, KeyError, RuntimeError, OSError, sqlite3.Error)

_TOO_LARGE = "larger than rate limiter capacity"
"""Message of a server for a request larger than its rate limit."""
_ADVICE = ". Help: "
"""Text that only strict mode adds to its refusals."""
_BROKEN = (httpx.TransportError, httpx.DecodingError, urllib3.exceptions.HTTPError)
"""Errors of a broken connection or an answer that was cut short."""
_NO_SPACE = "No space left on device"
# gRPC codes as HTTP statuses, so that the same rules hold for both interfaces.
_STATUS_OF = {
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.ABORTED: 503,
    grpc.StatusCode.CANCELLED: 503,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNKNOWN: 500,
}


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of a server's answer, or the nearest one to its gRPC code."""
    if isinstance(error, UnexpectedResponse):
        return error.status_code
    if isinstance(error, ResourceExhaustedResponse):
        return 429
    if isinstance(error, grpc.RpcError):
        return _STATUS_OF.get(error.code())
    return None


def is_transient(error: BaseException) -> bool:
    """Return whether the same request may succeed later: load, restart, a lost or cut answer."""
    # A cut answer is invalid JSON; a server that is not Qdrant fails every attempt.
    if isinstance(error, json.JSONDecodeError):
        return True
    if isinstance(error, ResponseHandlingException):
        # Other sources, such as an answer that the client library cannot validate, fail again.
        return isinstance(error.source, _BROKEN)
    status = status_of(error)
    if status == 429 and _TOO_LARGE in server_message(error):
        return False
    return status is not None and (status in (408, 429) or status >= 500)


def is_transient_answer(error: BaseException) -> bool:
    """Return whether a failure is transient and something answered: not a refused connection."""
    source = error.source if isinstance(error, ResponseHandlingException) else None
    return is_transient(error) and not isinstance(source, httpx.ConnectError)


def retry_after(error: BaseException | None) -> float | None:
    """Return the seconds of a server's Retry-After; None if it sent none.

    Over REST it may be a number or a date; anything else is ignored.
    """
    if isinstance(error, ResourceExhaustedResponse):
        return float(error.retry_after_s)
    named = error.headers.get("retry-after") if isinstance(error, UnexpectedResponse) else None
    if named is None:
        return None
    try:
        # Both forms of RFC 9110: a number of seconds, or a date.
        return urllib3.Retry().parse_retry_after(named)
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return None


def translate_error(error: BaseException, url: str) -> XbtMigrateError:
    """Turn a failure of the client library into an error of the tool with a hint."""
    status = status_of(error)
    said = server_message(error)
    if status in (401, 403):
        return ConnectionFailedError(
            f"Qdrant at {url} refused the credentials: {said}",
            "give an API key with write access in the environment variable named by "
            "qdrant.api_key_env",
        )
    if isinstance(error, json.JSONDecodeError):
        return ConnectionFailedError(
            f"what answers at {url} is not Qdrant: its answer is not JSON",
            "check the host, the port and the path of qdrant.url",
        )
    # The embedded mode has no status: it raises ValueError or KeyError for missing things.
    if status == 404 or isinstance(error, KeyError) or said.endswith("not found"):
        return CollectionError(
            f"Qdrant at {url} has no such collection or point: {said}",
            "check qdrant.collection; another process may have deleted it",
        )
    if status == 429 or _ADVICE in said:
        return _limited(url, said)
    if isinstance(error, ResponseHandlingException) or (status or 0) > 429:
        return _unanswered(error, url)
    return UnsupportedError(
        f"Qdrant at {url} refused a request: {said}",
        "check the server's log; an older version, or the collection's settings, may not allow it",
    )


def _unanswered(error: BaseException, url: str) -> XbtMigrateError:
    """Return the error for a missing answer, a server's error, or one that cannot be parsed."""
    said = server_message(error)
    source = error.source if isinstance(error, ResponseHandlingException) else None
    if isinstance(source, ValidationError):
        first = source.errors()[0]
        return UnsupportedError(
            f"an answer of Qdrant at {url} cannot be read: "
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            "vectors with NaN are returned as null: `xbtmigrate plan` names such points; "
            "otherwise the server may be newer than this version of qdrant-client",
        )
    what, remedy = "does not answer", "check qdrant.url and that the server is running"
    if _NO_SPACE in said:
        what, remedy = "has no disk space left", "free space on the server's disk"
    return ConnectionFailedError(
        f"Qdrant at {url} {what}: {said}", f"{remedy}, then run the same command again"
    )


def _limited(url: str, said: str) -> XbtMigrateError:
    """Return the error for a limit of the server or of strict mode; only rate limits pass."""
    if _TOO_LARGE in said:
        return UnsupportedError(
            f"Qdrant at {url} has a rate limit that is smaller than one request: {said}",
            "waiting does not help: raise read_rate_limit and write_rate_limit in the collection's "
            "strict_mode_config above the batch, or use a smaller --batch-size",
        )
    if _ADVICE in said:
        return UnsupportedError(
            f"the strict mode of a collection of Qdrant at {url} forbids a request: {said}",
            "waiting does not help: raise that limit in the collection's strict_mode_config until "
            "the migration has ended (PATCH /collections/NAME)",
        )
    return ConnectionFailedError(
        f"Qdrant at {url} accepts no more requests: {said}",
        "wait a minute and run the same command again, or raise read_rate_limit and "
        "write_rate_limit in the collection's strict_mode_config",
    )


def server_message(error: BaseException) -> str:
    """Return the server's own message, without the client's wrapping."""
    if isinstance(error, UnexpectedResponse):
        try:
            return str(error.structured()["status"]["error"])
        # A proxy's answer is not in Qdrant's form; its text is shown instead.
        except (ValueError, KeyError, TypeError):
            text = error.content.decode(errors="replace").strip()
            return text[:200] or f"HTTP {error.status_code}"
    if isinstance(error, ResponseHandlingException):
        return f"{type(error.source).__name__}: {str(error.source)[:200]}"
    if isinstance(error, grpc.RpcError):
        return str(error.details())
    return str(error)
