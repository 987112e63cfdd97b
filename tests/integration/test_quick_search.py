"""The service's client answers and fails as the library's own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient
from qdrant_client.http import models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
from urllib3.exceptions import ProtocolError

from tests.support.qdrant_server import free_port
from xbtmigrate.qdrant.wire.connect import open_async
from xbtmigrate.qdrant.wire.transport import Rest

pytestmark = pytest.mark.server
NAME = "quick-search"
ROWS = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def collection(qdrant_url: str) -> Iterator[str]:
    client = QdrantClient(url=qdrant_url, check_compatibility=False)
    params = models.VectorParams(size=6, distance=models.Distance.COSINE)
    client.create_collection(NAME, vectors_config={"v": params})
    payloads = [{"text": f"ä {row}", "big": 2**63 + row} for row in range(len(ROWS))]
    ids = [row if row % 2 else f"00000000-0000-0000-0000-{row:012}" for row in range(len(ROWS))]
    batch = models.Batch(ids=ids, vectors={"v": ROWS.tolist()}, payloads=payloads)
    client.upsert(NAME, batch, wait=True)
    yield NAME
    client.delete_collection(NAME)
    client.close()


def requests(using: str = "v") -> list[models.QueryRequest]:
    """Searches that differ in what they ask for and in what they leave to the server."""
    nearest = [models.NearestQuery(nearest=row.tolist()) for row in ROWS[:3]]
    keep = models.Filter(must_not=[models.HasIdCondition(has_id=[1, 3])])
    return [
        models.QueryRequest(query=nearest[0], using=using, limit=5, with_payload=True),
        models.QueryRequest(query=nearest[1], using=using, limit=7, offset=2, with_vector=True),
        models.QueryRequest(query=nearest[2], using=using, filter=keep, score_threshold=0.1),
    ]


def ask(url: str, using: str, **options: int) -> list[models.QueryResponse]:
    """Search with the service's client, 50 times at once."""

    async def answer() -> list[models.QueryResponse]:
        client = open_async(url, api_key=None, timeout=5, seconds=5.0, ca_file=None)
        try:
            searches = (
                client.query_batch_points(NAME, requests(using), **options) for _ in range(50)
            )
            first, *rest = await asyncio.gather(*searches)
            assert all(each == first for each in rest)
            return first
        finally:
            await client.close()

    return asyncio.run(answer())


@pytest.mark.parametrize("options", [{}, {"timeout": 5}])
def test_finds_what_the_library_finds(qdrant_url, collection, options):
    async def expected() -> list[models.QueryResponse]:
        client = AsyncQdrantClient(url=qdrant_url, check_compatibility=False)
        try:
            return await client.query_batch_points(collection, requests())
        finally:
            await client.close()

    found = ask(qdrant_url, "v", **options)
    assert found == asyncio.run(expected())
    assert [len(each.points) for each in found[:2]] == [5, 7]
    assert found[0].points[0].payload["big"] >= 2**63


def test_a_refusal_and_a_server_that_is_away_are_the_librarys_errors(qdrant_url, collection):
    with pytest.raises(UnexpectedResponse, match="absent"):
        ask(qdrant_url, "absent")
    with pytest.raises(ResponseHandlingException):
        ask(f"http://127.0.0.1:{free_port()}", "v")


def test_a_connection_that_the_server_has_closed_is_replaced(qdrant_url, collection, monkeypatch):
    send, closed = Rest.send, []

    def send_late(rest: Rest, *request: object) -> bytes:
        if not closed:
            closed.append(request)
            raise ResponseHandlingException(ProtocolError("closed"))
        return send(rest, *request)

    monkeypatch.setattr(Rest, "send", send_late)
    assert len(ask(qdrant_url, "v")) == len(requests())
    assert closed


def test_a_server_that_hangs_keeps_no_thread_longer_than_a_search_may_take():
    async def answer(port: int) -> None:
        url = f"http://127.0.0.1:{port}"
        client = open_async(url, api_key=None, timeout=600, seconds=0.1, ca_file=None)
        try:
            async with asyncio.timeout(60):
                await client.query_batch_points(NAME, requests())
        finally:
            await client.close()

    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ResponseHandlingException):
        asyncio.run(answer(silent.getsockname()[1]))
