"""The local page of `compare`: one query answered by both models side by side, and votes on it."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import HTMLResponse
from pydantic import Field

from xbtmigrate.report.page import render_template
from xbtmigrate.serving.http.admission import Admission
from xbtmigrate.serving.http.app import handle_errors
from xbtmigrate.serving.http.schemas import Body, Text

SECONDS = 10.0
"""Longest time in which the body of a request may arrive."""
MAX_TICKED = 100


class ShownPoint(Body):
    """A point as the page shows it.

    Attributes:
        text: The text of its payload; "" for none.
        image: Its image as a data URI; "" where it cannot be shown.
        payload: The payload.
    """

    text: str
    image: str
    payload: Mapping[str, Any]


class RankedHit(Body):
    """One hit of one column.

    Attributes:
        id: The point.
        kind: How its new vector was made: "projected", "encoded", or "" where it has none.
        moved: Places that it rose compared with the old model; None where that did not show it.
    """

    id: str
    kind: str
    moved: int | None


class Column(Body):
    """What one way to serve finds.

    Attributes:
        name: `keep`, `projected` or `encoded`.
        title: Its heading.
        note: How its hits were found, or why there are none.
        hits: Best first.
    """

    name: str
    title: str
    note: str
    hits: Sequence[RankedHit]


class ComparedQuery(Body):
    """What the page shows of one query."""

    columns: Sequence[Column]
    points: Mapping[str, ShownPoint]
    relevant: Sequence[str]


class CompareRequest(Body):
    """A query: typed, or the number of a judged one."""

    text: Text | None = None
    judged: Annotated[int, Field(ge=0)] | None = None


class Vote(CompareRequest):
    """Which model answers a query better, and the hits that answer it."""

    vote: Literal["old", "same", "new"]
    relevant: Annotated[list[Text], Field(min_length=1, max_length=MAX_TICKED)]


class Votes(Body):
    """The votes so far, and the command that measures with them."""

    old: int
    same: int
    new: int
    command: str


class CompareBackend(Protocol):
    """What the page asks for."""

    @property
    def facts(self) -> Mapping[str, str]:
        """What is compared: title, a line about both models, and the state of the migration."""
        ...

    @property
    def judged(self) -> Sequence[str]:
        """The judged queries to pick from."""
        ...

    def search(self, asked: CompareRequest) -> ComparedQuery:
        """Answer a query in every way; raises an XbtMigrateError where that cannot be."""
        ...

    def votes(self) -> Votes:
        """Count the votes so far."""
        ...

    def keep(self, vote: Vote) -> Votes:
        """Store a vote."""
        ...


def create_compare_page(comparison: CompareBackend, token: str) -> FastAPI:
    """Make the application.

    Args:
        comparison: Answers queries and keeps votes.
        token: The secret first part of every path. Other users of this machine can reach the port
            too, and a page in the same browser can send requests to it: neither knows this.
    """
    app = FastAPI(openapi_url=None)
    app.state.backend = _Limits()
    app.add_middleware(Admission, api_key=None)
    handle_errors(app)
    pages = APIRouter(prefix=f"/{token}")
    # Tokenizers and the embedded database do not stand two threads at a time.
    turn = threading.Lock()

    @pages.get("/")
    def page() -> Response:
        nonce = secrets.token_urlsafe(16)
        text = render_template(
            "compare.html.j2",
            facts=comparison.facts,
            judged=comparison.judged,
            votes=comparison.votes(),
            nonce=nonce,
        )
        return HTMLResponse(text, headers=_headers(nonce))

    @pages.post("/search")
    def search(asked: CompareRequest) -> ComparedQuery:
        with turn:
            return comparison.search(asked)

    @pages.post("/vote")
    def vote(given: Vote) -> Votes:
        with turn:
            return comparison.keep(given)

    app.include_router(pages)
    return app


class _Limits:
    """What `Admission` reads of a backend."""

    seconds = SECONDS


def _headers(nonce: str) -> dict[str, str]:
    """Headers that keep the page to itself: payloads may hold what strangers wrote."""
    policy = {
        "default-src": "'none'",
        "script-src": f"'nonce-{nonce}'",
        "style-src": f"'nonce-{nonce}'",
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "content-security-policy": "; ".join(f"{key} {value}" for key, value in policy.items()),
        # The address holds the token.
        "referrer-policy": "no-referrer",
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
    }
