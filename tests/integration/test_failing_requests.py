"""The requests at both ends of a run fail, and the run does not."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate

import pytest
from qdrant_client import models

from tests.support.collections import fresh_name, vectors
from tests.support.proxy import DroppedError, Proxy, RefusedError, Request, proxied
from xbtmigrate.backfill.pace import Limits, Pace
from xbtmigrate.qdrant.collection.facts import inspect
from xbtmigrate.qdrant.collection.health import OptimizerQueue
from xbtmigrate.qdrant.collection.snapshots import take_snapshot
from xbtmigrate.qdrant.journal.journal import QdrantJournal
from xbtmigrate.qdrant.journal.run_control import Control
from xbtmigrate.qdrant.wire.connect import connect
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.own_collection import JOURNAL, ensure_journal
from xbtmigrate.testing.journals import started
from xbtmigrate.workflows.backfill.throttle import LoadMonitor

pytestmark = pytest.mark.server


@pytest.fixture
def migration() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def proxy(qdrant_url: str) -> Iterator[Proxy]:
    with proxied(qdrant_url) as opened:
        yield opened


@pytest.fixture
def through(proxy: Proxy) -> Iterator[Connection]:
    with connect(proxy.url) as connection:
        yield connection


def lose_answers(proxy: Proxy, count: int, to: str) -> list[str]:
    """Lose the first answers to requests whose path contains `to`; returns the list of them."""
    lost: list[str] = []

    def after(request: Request) -> None:
        if to in request.path and request.method != "GET" and len(lost) < count:
            lost.append(request.path)
            raise DroppedError

    proxy.after = after
    return lost


def test_the_first_publication_of_the_load_is_repeated(
    proxy: Proxy, through: Connection, server_db: Connection, migration: str
) -> None:
    name = fresh_name()
    server_db.client.create_collection(name, vectors_config=vectors(old=2))
    point = models.PointStruct(id=1, vector={"old": [1.0, 0.0]}, payload={})
    server_db.client.upsert(name, [point], wait=True)
    ensure_journal(server_db)
    limits = Limits(max_slowdown=None, max_rate=None)
    facts = inspect(server_db, name, "old")
    control, pace = Control(through, migration), Pace(limits, 10, logging.info)
    watch = LoadMonitor(through, facts, control, OptimizerQueue(through, name), limits, 0, pace)
    lost = lose_answers(proxy, 2, JOURNAL)
    watch.start()
    watch.end()
    assert len(lost) == 2
    assert Control(server_db, migration).read_load()["state"] == "ended"


@pytest.mark.parametrize("count", [1, 2])
def test_a_lease_is_given_back_though_answers_are_lost(
    count: int, proxy: Proxy, through: Connection, server_db: Connection, migration: str
) -> None:
    journal = QdrantJournal(through, migration)
    journal.acquire(started(migration))
    lost = lose_answers(proxy, count, JOURNAL)
    journal.release()
    assert len(lost) == count
    record = QdrantJournal(server_db, migration).load()
    assert record is not None
    assert record.owner == ""


def test_a_lease_that_cannot_be_given_back_fails_nothing(
    proxy: Proxy, through: Connection, migration: str, caplog: pytest.LogCaptureFixture
) -> None:
    journal = QdrantJournal(through, migration)
    journal.acquire(started(migration))

    def refuse(_: Request) -> None:
        raise RefusedError(None, 503)

    proxy.before = refuse
    journal.release()
    assert "could not be released" in caplog.text


@pytest.mark.parametrize("count", [1, 2])
def test_a_lease_that_was_taken_is_recognised(
    count: int, proxy: Proxy, through: Connection, migration: str
) -> None:
    lost = lose_answers(proxy, count, JOURNAL)
    journal = QdrantJournal(through, migration)
    held = journal.acquire(started(migration))
    assert held.owner
    assert len(lost) == count
    journal.release()


def test_a_snapshot_is_taken_once(proxy: Proxy, through: Connection, server_db: Connection) -> None:
    name = fresh_name()
    server_db.client.create_collection(name, vectors_config=vectors(old=2))
    earlier = take_snapshot(server_db, name)
    lost = lose_answers(proxy, 1, "/snapshots")
    made = take_snapshot(through, name)
    assert len(lost) == 1
    present = {each.name for each in server_db.client.list_snapshots(name)}
    assert present == {earlier, made}


@pytest.mark.parametrize("named", [formatdate(usegmt=True), "-3", "0"], ids=["date", "-3", "0"])
def test_any_time_to_come_back_at_is_borne(named: str, proxy: Proxy, through: Connection) -> None:
    refused: list[str] = []

    def refuse(request: Request) -> None:
        if len(refused) < 2:
            refused.append(request.path)
            raise RefusedError(named)

    proxy.before = refuse
    patient = replace(through, attempts=1)
    assert patient.call(through.client.get_collections) is not None
    assert len(refused) == 2
