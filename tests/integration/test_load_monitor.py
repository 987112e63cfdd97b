"""The monitor of a run on a server that other clients query, or do not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from qdrant_client import QdrantClient, models

from tests.support.collections import fresh_name, vectors
from tests.support.qdrant_server import Server
from xbtmigrate.backfill.pace import Limits, Pace, WaitReason
from xbtmigrate.qdrant.collection.facts import inspect
from xbtmigrate.qdrant.collection.health import OptimizerQueue
from xbtmigrate.qdrant.collection.other_clients import QUIET
from xbtmigrate.qdrant.journal.run_control import Control
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.own_collection import ensure_journal
from xbtmigrate.workflows.backfill.throttle import LOOK_EVERY, LoadMonitor

pytestmark = pytest.mark.server


class Watched:
    """A monitor whose clock the test moves ahead."""

    def __init__(self, db: Connection, name: str) -> None:
        limits = Limits()
        self.said: list[str] = []
        self.pace = Pace(limits, 256, self.said.append)
        facts, control = inspect(db, name, "old"), Control(db, fresh_name())
        backlog = OptimizerQueue(db, name)
        self.monitor = LoadMonitor(db, facts, control, backlog, limits, 0, self.pace)
        self.ahead = 0.0

    def tick(self) -> None:
        self.monitor.tick(time.monotonic() + self.ahead)

    def tick_until(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not reached():
            assert time.monotonic() < deadline, self.said
            self.tick()
            time.sleep(0.02)


@pytest.fixture
def name(server_db: Connection) -> str:
    name = fresh_name()
    client = server_db.client
    client.create_collection(name, vectors_config=vectors(old=2))
    points = [models.PointStruct(id=row, vector={"old": [1.0, row]}) for row in range(100)]
    client.upsert(name, points, wait=True)
    ensure_journal(server_db)
    return name


@pytest.fixture
def watched(server_db: Connection, name: str) -> Iterator[Watched]:
    watched = Watched(server_db, name)
    yield watched
    watched.monitor.end()


def test_others_are_protected_from_their_first_queries_on(
    watched: Watched, name: str, qdrant_server: Server
):
    pace = watched.pace
    watched.tick_until(lambda: pace.baseline is not None)
    # Nobody else is there, so no probe is sent.
    watched.tick_until(lambda: pace.p95 is None)
    for _ in range(20):
        watched.ahead += LOOK_EVERY
        watched.tick()
    assert pace.p95 is None
    client = QdrantClient(
        url=qdrant_server.url,
        grpc_port=qdrant_server.grpc_port,
        prefer_grpc=True,
        check_compatibility=False,
    )
    for _ in range(10):
        client.query_points(name, query=[1.0, 0.0], using="old")
    # Probes are sent again, and need no second measurement without the run.
    baseline = pace.baseline
    watched.tick_until(lambda: pace.p95 is not None)
    assert (pace.baseline, WaitReason.CHECK in pace.holds) == (baseline, False)
    pace.judge(10_000.0)
    assert (pace.suffering, pace.share) == (True, 0.5)
    watched.ahead += QUIET
    watched.tick_until(lambda: pace.p95 is None)
    assert (pace.suffering, pace.share, pace.holds) == (False, 1.0, {})
