"""Requests as values, so that one procedure serves both the sync and the asyncio client.

A procedure is a generator: it yields the requests of one round trip and receives their answers.
Only `run` and `run_async` differ between the two clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias, TypeVar

from qdrant_client import AsyncQdrantClient, QdrantClient, models

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Search:
    """One query of a collection; those of the same collection and round trip are sent together."""

    collection: str
    request: models.QueryRequest
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Computation:
    """A slow computation, which runs in a thread on an event loop."""

    compute: Callable[[], Any]


Call: TypeAlias = Callable[[Any], Any]
"""Any other request: a function that calls a method of the client."""

Request: TypeAlias = Search | Computation | Call
Procedure: TypeAlias = Generator[Sequence[Request], Sequence[Any], T]

MAX_PARALLEL = 8
"""Most concurrent requests of one round trip."""


def write_call(method: str, collection: str, content: Any, options: Mapping[str, Any]) -> Call:
    """Make the request that writes points by a method of the client."""
    return lambda client: getattr(client, method)(collection, content, **options)


def run_together(procedures: Sequence[Procedure[T]]) -> Procedure[list[T]]:
    """Run several procedures in step, so that they share their round trips."""
    if len(procedures) == 1:  # the usual query: nothing to share, nothing to keep apart
        return [(yield from procedures[0])]
    ended: dict[int, T] = {}
    # Procedures may take different numbers of round trips.
    waiting: dict[int, Sequence[Request]] = {}

    def advance(row: int, answers: Sequence[Any] | None) -> None:
        try:
            step = procedures[row]
            waiting[row] = next(step) if answers is None else step.send(answers)
        except StopIteration as end:
            waiting.pop(row, None)
            ended[row] = end.value

    for row in range(len(procedures)):
        advance(row, None)
    while waiting:
        rows = dict(waiting)
        # An error of any request is raised here and ends all of them: `Core.with_retry` around them
        # repeats all of them, so none answers in a state that another has found outdated.
        answers = yield [request for requests in rows.values() for request in requests]
        start = 0
        for row, requests in rows.items():
            advance(row, answers[start : start + len(requests)])
            start += len(requests)
    return [ended[row] for row in range(len(procedures))]


def run(client: QdrantClient, procedure: Procedure[T]) -> T:
    """Run a procedure; requests of a round trip that cannot be sent together run in parallel."""
    try:
        requests = next(procedure)
        while True:
            parcels = _pack(requests)
            try:
                if len(parcels) == 1:
                    found = [parcels[0].send(client)]
                elif is_embedded(client):  # its database is not made for threads
                    found = [parcel.send(client) for parcel in parcels]
                else:
                    found = list(_threads().map(lambda each: each.send(client), parcels))
            except Exception as error:  # noqa: BLE001
                # The procedure decides what an error means: it may re-read the state and retry.
                requests = procedure.throw(error)
            else:
                requests = procedure.send(_unpack(parcels, found))
    except StopIteration as end:
        result: T = end.value
        return result


async def run_async(client: AsyncQdrantClient, procedure: Procedure[T]) -> T:
    """Run a procedure on an asyncio client."""
    try:
        requests = next(procedure)
        while True:
            parcels = _pack(requests)
            try:
                found = await asyncio.gather(*(_send(parcel, client) for parcel in parcels))
            except Exception as error:  # noqa: BLE001
                requests = procedure.throw(error)
            else:
                requests = procedure.send(_unpack(parcels, found))
    except StopIteration as end:
        result: T = end.value
        return result


def is_embedded(client: QdrantClient | AsyncQdrantClient) -> bool:
    """Return whether the client's database is in this process."""
    options = client.init_options
    return options.get("path") is not None or options.get("location") == ":memory:"


@dataclass(frozen=True, slots=True)
class _Parcel:
    """One request, or all searches of one collection.

    Attributes:
        request: The request; the first one of several searches.
        rows: The places of the answers.
        searches: The searches that travel together.
    """

    request: Request
    rows: list[int]
    searches: list[models.QueryRequest] = field(default_factory=list)

    def send(self, client: Any) -> Any:
        """Send it; an asyncio client returns an awaitable, except for a computation."""
        request = self.request
        if isinstance(request, Search):
            options = dict(request.options)
            return client.query_batch_points(request.collection, self.searches, **options)
        return request.compute() if isinstance(request, Computation) else request(client)


async def _send(parcel: _Parcel, client: AsyncQdrantClient) -> Any:
    if isinstance(parcel.request, Computation):
        # An encoder takes up to seconds, while the event loop must serve other queries.
        return await asyncio.to_thread(parcel.send, client)
    return await parcel.send(client)


def _pack(requests: Sequence[Request]) -> list[_Parcel]:
    parcels: list[_Parcel] = []
    searches: dict[tuple[str, tuple[tuple[str, Any], ...]], _Parcel] = {}
    # Searches of one collection with the same options become one batch request: one round trip.
    for row, request in enumerate(requests):
        if not isinstance(request, Search):
            parcels.append(_Parcel(request, [row]))
            continue
        key = request.collection, request.options
        if key not in searches:
            searches[key] = _Parcel(request, [])
            parcels.append(searches[key])
        searches[key].rows.append(row)
        searches[key].searches.append(request.request)
    return parcels


def _unpack(parcels: Sequence[_Parcel], found: Sequence[Any]) -> list[Any]:
    """Return the answers in the order of the requests."""
    answers: dict[int, Any] = {}
    for parcel, answer in zip(parcels, found, strict=True):
        if not parcel.searches:
            answers[parcel.rows[0]] = answer
            continue
        for row, result in zip(parcel.rows, answer, strict=True):
            answers[row] = result.points
    # Packing has reordered searches, and a procedure expects its answers in order.
    return [answer for _, answer in sorted(answers.items())]


@cache
def _threads() -> ThreadPoolExecutor:
    # One pool for the process, so that queries do not start threads.
    return ThreadPoolExecutor(MAX_PARALLEL, thread_name_prefix="xbtmigrate-search")
