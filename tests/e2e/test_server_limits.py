"""A server that asks for fewer requests is obeyed: nothing fails, and the waits are told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse

from tests.support.command import answer_inside, inside
from tests.support.proxy import Proxy, RefusedError, Request, proxied
from tests.support.twins import COUNT, Twins, check_points

pytestmark = [pytest.mark.long, pytest.mark.server]
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
            raise RefusedError("1")


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


def test_rate_limits_of_strict_mode_are_back_pressure(
    client: QdrantClient, qdrant_url: str, tmp_path: Path
):
    """The server charges a batch of marks one by one, and refuses it in the middle."""
    twins = Twins.start(client, qdrant_url, tmp_path, "in_place")
    strict = models.StrictModeConfig(enabled=True, write_rate_limit=12_000)
    client.update_collection(twins.name, strict_mode_config=strict)
    points = [
        models.PointStruct(id=row + 1, vector={"old": vector.tolist()}, payload={"text": text})
        for row, (text, vector) in enumerate(zip(twins.texts[:COUNT], twins.old, strict=False))
    ]
    with pytest.raises(ResourceExhaustedResponse):
        write_on(client, twins.name, points)
    code, out, err = inside(*RUN, "--fraction", "0", "--json", cwd=tmp_path)
    assert code == 0, err
    assert json.loads(out)["gallery"]["projected"] == COUNT
    assert answer_inside("status", cwd=tmp_path)["load"]["pauses"]["server_limit"]["count"] >= 1
    check_points(client, twins.name, twins, {row + 1: row for row in range(COUNT)}, "old")


def write_on(client: QdrantClient, name: str, points: list[models.PointStruct]) -> None:
    while True:
        client.upsert(name, points)
