"""Room `search`: requests as values, so that one procedure serves sync and async clients.

A procedure is a generator: it yields the requests of one round trip and is sent their answers. The
two functions at the end are all that differs between the clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias, TypeVar

from qdrant_client import AsyncQdrantClient, QdrantClient, models

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Search:
    """One query of a collection; those of one collection and round trip travel together."""

    collection: str
    request: models.QueryRequest
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Work:
    """Something to be computed that takes its time: an event loop leaves it to a thread."""

    compute: Callable[[], Any]


Call: TypeAlias = Callable[[Any], Any]
"""Any other request: calls a method of the client it is given."""

Ask: TypeAlias = Search | Work | Call
Steps: TypeAlias = Generator[Sequence[Ask], Sequence[Any], T]

PARALLEL = 8


def writing(method: str, collection: str, content: Any, options: Mapping[str, Any]) -> Call:
    """Write points by a method of the client."""
    return lambda client: getattr(client, method)(collection, content, **options)


def together(procedures: Sequence[Steps[T]]) -> Steps[list[T]]:
    """Run several procedures in step, so that they share their round trips."""
    ended: dict[int, T] = {}
    waiting: dict[int, Sequence[Ask]] = {}

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
        answers = yield [ask for asks in rows.values() for ask in asks]
        start = 0
        for row, asks in rows.items():
            advance(row, answers[start : start + len(asks)])
            start += len(asks)
    return [ended[row] for row in range(len(procedures))]


def run(client: QdrantClient, steps: Steps[T]) -> T:
    """Run a procedure; requests of one round trip that cannot travel together run in parallel."""
    try:
        asks = next(steps)
        while True:
            parcels = _parcels(asks)
            try:
                if len(parcels) < 2 or is_embedded(client):
                    found = [parcel.send(client) for parcel in parcels]
                else:
                    found = list(_threads().map(lambda each: each.send(client), parcels))
            except Exception as error:  # noqa: BLE001
                asks = steps.throw(error)
            else:
                asks = steps.send(_unpacked(parcels, found))
    except StopIteration as end:
        result: T = end.value
        return result


async def run_async(client: AsyncQdrantClient, steps: Steps[T]) -> T:
    """Run a procedure on an asyncio client."""
    try:
        asks = next(steps)
        while True:
            parcels = _parcels(asks)
            try:
                found = await asyncio.gather(*(_sent(parcel, client) for parcel in parcels))
            except Exception as error:  # noqa: BLE001
                asks = steps.throw(error)
            else:
                asks = steps.send(_unpacked(parcels, found))
    except StopIteration as end:
        result: T = end.value
        return result


def is_embedded(client: QdrantClient | AsyncQdrantClient) -> bool:
    """Whether the client has its database within this process."""
    options = client.init_options
    return options.get("path") is not None or options.get("location") == ":memory:"


async def _sent(parcel: _Parcel, client: AsyncQdrantClient) -> Any:
    if parcel.works:
        return await asyncio.to_thread(parcel.send, client)
    return await parcel.send(client)


@dataclass(frozen=True, slots=True)
class _Parcel:
    """One request, or all searches of one collection; with the places of their answers."""

    send: Call
    rows: list[int]
    batch: bool = False
    works: bool = False


def _parcels(asks: Sequence[Ask]) -> list[_Parcel]:
    parcels: list[_Parcel] = []
    searches: dict[tuple[str, tuple[tuple[str, Any], ...]], list[int]] = {}
    for row, ask in enumerate(asks):
        if isinstance(ask, Work):
            parcels.append(_Parcel(_ignoring_client(ask), [row], works=True))
        elif not isinstance(ask, Search):
            parcels.append(_Parcel(ask, [row]))
        else:
            searches.setdefault((ask.collection, ask.options), []).append(row)
    for (collection, options), rows in searches.items():
        requests = [ask.request for row in rows if isinstance(ask := asks[row], Search)]
        parcels.append(_Parcel(_batch(collection, requests, dict(options)), rows, batch=True))
    return parcels


def _batch(
    collection: str, requests: list[models.QueryRequest], options: Mapping[str, Any]
) -> Call:
    return lambda client: client.query_batch_points(collection, requests, **options)


def _ignoring_client(work: Work) -> Call:
    return lambda _: work.compute()


def _unpacked(parcels: Sequence[_Parcel], found: Sequence[Any]) -> list[Any]:
    answers: dict[int, Any] = {}
    for parcel, answer in zip(parcels, found, strict=True):
        each = [result.points for result in answer] if parcel.batch else [answer]
        answers.update(zip(parcel.rows, each, strict=True))
    return [answers[row] for row in range(len(answers))]


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(PARALLEL, thread_name_prefix="xbtmigrate-search")
