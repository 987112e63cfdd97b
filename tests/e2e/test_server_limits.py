"""A server that asks for fewer requests is obeyed: nothing fails, and the waits are told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from qdrant_client import QdrantClient

from tests.support.command import answer_inside
from tests.support.proxy import Proxy, RefusedError, Request, proxied
from tests.support.twins import COUNT, Twins, check_points

pytestmark = pytest.mark.server
RUN = ("backfill", "--online", "--max-slowdown", "off")


@pytest.fixture
def client(qdrant_url: str) -> Iterator[QdrantClient]:
    client = QdrantClient(url=qdrant_url, check_compatibility=False)
    yield client
    client.close()


class Busy:
    """Refuses every sixth request that is no GET, five times."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self._seen = 0
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> None:
        if request.method == "GET":
            return
        with self._lock:
            self._seen += 1
            refuses = self._seen % 6 == 0 and len(self.refused) < 5
            if refuses:
                self.refused.append(request.path)
        if refuses:
            raise RefusedError(1)


@pytest.mark.parametrize("layout", ["in_place", "shadow"])
def test_retry_after_is_obeyed_from_the_backfill_to_the_cutover(
    layout: str, client: QdrantClient, qdrant_url: str, tmp_path: Path
):
    with proxied(qdrant_url) as proxy:
        twins = Twins.start(client, proxy.url, tmp_path, layout)
        busy = refuse(proxy)
        done = answer_inside(*RUN, "--fraction", "1", cwd=tmp_path)
        assert done["gallery"]["encoded"] == COUNT
        assert len(busy.refused) == 5
        pauses = answer_inside("status", cwd=tmp_path)["load"]["pauses"]
        assert pauses["server_limit"]["count"] >= 1
        assert pauses["server_limit"]["seconds"] >= 1
        for command in (("verify",), ("cutover", "--yes")):
            busy = refuse(proxy)
            answer_inside(*command, cwd=tmp_path)
            assert busy.refused
    check_points(client, twins.target, twins, {row + 1: row for row in range(COUNT)}, "new")


def refuse(proxy: Proxy) -> Busy:
    proxy.before = busy = Busy()
    return busy
