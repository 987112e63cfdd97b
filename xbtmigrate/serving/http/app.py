"""The HTTP application: each route calls one part of the backend, each error becomes a status."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import numpy as np
import orjson
from fastapi import Depends, FastAPI, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from xbtmigrate import __version__
from xbtmigrate.errors import (
    ConfigError,
    EncoderError,
    UnreadableSourceError,
    UnsupportedError,
    XbtMigrateError,
)
from xbtmigrate.protocols import Encoder
from xbtmigrate.qdrant.wire.server_errors import status_of, translate_error
from xbtmigrate.serving.embed import check_vector
from xbtmigrate.serving.engine import CLIENT_ERRORS
from xbtmigrate.serving.http.admission import KEY, Admission, error_response
from xbtmigrate.serving.http.canary import SplitSearcher
from xbtmigrate.serving.http.schemas import (
    EmbedRequest,
    EmbedResponse,
    ErrorResponse,
    Health,
    SearchRequest,
    SearchResponse,
)
from xbtmigrate.serving.http.service_metrics import Metrics, RequestCounter
from xbtmigrate.types import Modality

KEY_HEADER = APIKeyHeader(name=KEY, auto_error=False)
"""Describes the key in the OpenAPI document; `Admission` checks it."""
AT_A_TIME = 8
"""Items embedded at a time: a request that has timed out ends after these at the latest."""
MAX_ERRORS, MAX_ERROR_LENGTH = 5, 200
TEXTS = {
    400: "The body is not JSON.",
    401: "The API key is missing or wrong.",
    403: "The service has no key, and the Host header does not name its machine.",
    408: "The body did not arrive in time.",
    409: "The migration cannot answer this at present.",
    413: "The body is too large.",
    422: "The request is wrong.",
    503: "Qdrant or a model does not answer.",
    504: "The request took too long.",
}


@dataclass(frozen=True, slots=True)
class Backend:
    """What the routes use.

    Attributes:
        searcher: Answers queries by the new or the old serving.
        encoders: `new` and `old`, where they are loaded.
        metrics: Counts and times for Prometheus.
        seconds: Longest time for one request.
        close: Called once at the end.
    """

    searcher: SplitSearcher
    encoders: Mapping[str, Encoder]
    metrics: Metrics
    seconds: float
    close: Callable[[], Awaitable[None]]


Start: TypeAlias = Callable[[], Awaitable[Backend]]
Responses: TypeAlias = dict[int | str, dict[str, Any]]


def create_app(start: Start, api_key: str | None) -> FastAPI:
    """Make the application.

    Args:
        start: Opens the backend, within the server's own event loop.
        api_key: What requests must carry in the header `api-key`; None requires nothing.
    """
    app = FastAPI(
        title="xbtmigrate",
        version=__version__,
        description="Search a Qdrant collection while its embedding model is being replaced.",
        lifespan=_lifespan(start),
    )
    # Added first, so it is inside the middleware that counts, which counts refusals too.
    app.add_middleware(Admission, api_key=api_key)
    _routes(app, [Security(KEY_HEADER)])
    handle_errors(app)
    return app


def handle_errors(app: FastAPI) -> None:
    """Answer every error with a status, what is wrong and what to do."""
    app.exception_handler(RequestValidationError)(_handle_invalid)
    app.exception_handler(HTTPException)(_handle_http_error)
    app.exception_handler(XbtMigrateError)(_handle_error)
    app.exception_handler(TimeoutError)(_handle_timeout)
    # By class: Starlette looks up handlers by the class of an error, and these share no base.
    for each in CLIENT_ERRORS:
        app.exception_handler(each)(_handle_client_error)


def _routes(app: FastAPI, keyed: list[Any]) -> None:
    problems: Responses = {
        status: {"model": ErrorResponse, "description": text} for status, text in TEXTS.items()
    }
    refusals: Responses = {status: problems[status] for status in (401, 403)}
    not_ready: Responses = {503: {"model": Health, "description": "Not ready."}}
    app.post("/search", dependencies=keyed, responses=problems, response_model=SearchResponse)(
        search
    )
    app.post("/embed", dependencies=keyed, responses=problems)(embed)
    app.get("/metrics", dependencies=keyed, response_class=Response, responses=refusals)(metrics)
    app.get("/healthz")(healthz)
    app.get("/readyz", responses=not_ready)(readyz)
    app.add_middleware(RequestCounter)


def _lifespan(start: Start) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def opened(app: FastAPI) -> AsyncIterator[None]:
        backend = await start()
        app.state.backend = backend
        try:
            yield
        finally:
            # Comparisons use the connections that `close` ends.
            await backend.searcher.settle()
            await backend.close()

    return opened


async def _backend(request: Request) -> Backend:
    # Not a plain function: FastAPI would send each request to a thread for it.
    backend: Backend = request.app.state.backend
    return backend


OurBackend = Annotated[Backend, Depends(_backend)]


async def search(body: SearchRequest, backend: OurBackend) -> Response:
    """Search with a text, an image or vectors."""
    situation = backend.searcher.new.situation
    spaces = ("new", body.vector, situation.new.size), ("old", body.old_vector, situation.old.size)
    for model, vector, size in spaces:
        if vector is not None:
            _check_size(vector, size, model)
    async with asyncio.timeout(backend.seconds):
        found = await backend.searcher.answer(body.question())
    phase = backend.searcher.new.situation.phase
    hits = [{"id": each.id, "score": each.score, "payload": each.payload} for each in found]
    answer = {
        "points": hits,
        "serving": found.serving,
        "phase": phase and phase.value,
        "note": found.note,
    }
    # Without FastAPI's validation: it would copy every payload twice.
    return Response(orjson.dumps(answer), media_type="application/json")


async def embed(body: EmbedRequest, backend: OurBackend) -> EmbedResponse:
    """Embed texts or images with the new or the old model."""
    encoder = backend.encoders.get(body.model)
    if encoder is None:
        raise UnsupportedError(
            f"the {body.model} model is not loaded here", "start the service with it"
        )
    items = body.texts if body.texts is not None else body.images or []
    modality = Modality.TEXT if body.texts is not None else Modality.IMAGE
    parts = []
    async with asyncio.timeout(backend.seconds):
        # A thread cannot be cancelled: a request that has timed out ends between batches.
        for start in range(0, len(items), AT_A_TIME):
            some = items[start : start + AT_A_TIME]
            parts.append(await asyncio.to_thread(encoder.encode, some, modality))
    return EmbedResponse(
        vectors=np.concatenate(parts).tolist(),
        dimension=encoder.dimension,
        fingerprint=encoder.fingerprint,
    )


async def metrics(backend: OurBackend) -> Response:
    """Counts and times for Prometheus."""
    searcher = backend.searcher.new
    phase = searcher.situation.phase
    text = backend.metrics.render(phase.value if phase else "none", problem=bool(searcher.problem))
    return Response(text, media_type=CONTENT_TYPE_LATEST)


async def healthz() -> Health:
    """Report that the process is alive."""
    return Health(status="ok")


async def readyz(backend: OurBackend, response: Response) -> Health:
    """Report whether queries can be answered now."""
    searcher = backend.searcher.new
    problem = ""
    try:
        async with asyncio.timeout(backend.seconds):
            # A query continues with the last state and warns; readiness reports the error instead.
            await searcher.reload()
    except (XbtMigrateError, TimeoutError, *CLIENT_ERRORS) as error:
        problem = str(error) or type(error).__name__
    phase = searcher.situation.phase
    response.status_code = 503 if problem else 200
    return Health(
        status="not ready" if problem else "ok", phase=phase and phase.value, problem=problem
    )


def _check_size(vector: list[float], size: int, model: str) -> None:
    # An EncoderError becomes a 503, but a vector of the wrong size is the caller's mistake: 422.
    try:
        check_vector(vector, size, model)
    except EncoderError as error:
        raise ConfigError(error.message, error.hint) from error


async def _handle_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # Pydantic reports an error for each wrong item: a bad body must not make a huge response.
    errors = error.errors()
    lines = [
        f"{'.'.join(map(str, each['loc']))}: {each['msg']}"[:MAX_ERROR_LENGTH]
        for each in errors[:MAX_ERRORS]
    ]
    if len(errors) > MAX_ERRORS:
        lines.append(f"and {len(errors) - MAX_ERRORS} more")
    return error_response(422, "; ".join(lines), "/docs describes the requests")


async def _handle_http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    answer = error_response(error.status_code, str(error.detail), "")
    answer.headers.update(error.headers or {})
    return answer


async def _handle_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, XbtMigrateError)
    # 422: change the request. 409: wait for the migration, or start the service with another model.
    # 503: try again later.
    wrong = isinstance(error, ConfigError | UnreadableSourceError)
    status = 422 if wrong else 409 if isinstance(error, UnsupportedError) else 503
    return error_response(status, error.message, error.hint)


async def _handle_timeout(_: Request, __: Exception) -> JSONResponse:
    return error_response(504, "the answer took too long", "ask for less, or try again later")


async def _handle_client_error(_: Request, error: Exception) -> JSONResponse:
    status = status_of(error)
    meant = translate_error(error, "this service")
    # A 4xx of Qdrant is the request's fault, unless it is about this service's key or load.
    theirs = status is not None and 400 <= status < 500 and status not in (401, 403, 408, 429)
    return error_response(422 if theirs else 503, meant.message, meant.hint)
