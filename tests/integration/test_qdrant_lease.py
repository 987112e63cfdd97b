"""Two runs of one migration: the second is refused, unless the first is certainly gone."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from qdrant_client import models

from xbtmigrate.errors import LeaseError
from xbtmigrate.qdrant.journal.journal import QdrantJournal
from xbtmigrate.qdrant.journal.lease_owner import Owner
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.own_collection import JOURNAL, record_id
from xbtmigrate.testing.journals import started

pytestmark = pytest.mark.server

HOLDER = """
import sys
from xbtmigrate.qdrant.wire.connect import connect
from xbtmigrate.qdrant.journal.journal import QdrantJournal
from xbtmigrate.testing.journals import started
journal = QdrantJournal(connect(sys.argv[1]), sys.argv[2])
journal.acquire(started(sys.argv[2]))
print("held", flush=True)
sys.stdin.read()
journal.release()
"""


@pytest.fixture
def migration() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def hold(qdrant_url: str, migration: str) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start another process that takes the lease and keeps it."""
    children: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", HOLDER, qdrant_url, migration],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        return child

    yield start
    for child in children:
        child.communicate()


def pretend(db: Connection, migration: str, **fields: object) -> None:
    """Change the stored record as a run on another machine would."""
    db.client.set_payload(JOURNAL, fields, points=[record_id("migration", migration)], wait=True)


def elsewhere() -> str:
    return str(replace(Owner.here(), hostname="far", machine="another boot", pid=4711))


def test_a_live_process_keeps_its_lease(
    server_db: Connection, migration: str, hold: Callable[[], subprocess.Popen[str]]
) -> None:
    holder = hold()
    with pytest.raises(LeaseError, match=f"process {holder.pid}") as refusal:
        QdrantJournal(server_db, migration).acquire(started(migration))
    assert refusal.value.exit_code == 3
    holder.communicate()
    second = QdrantJournal(server_db, migration)
    second.acquire(started(migration))
    second.release()


def test_a_killed_process_loses_its_lease_at_once(
    server_db: Connection, migration: str, hold: Callable[[], subprocess.Popen[str]]
) -> None:
    holder = hold()
    holder.kill()
    holder.wait()
    begin = time.monotonic()
    journal = QdrantJournal(server_db, migration)
    record = journal.load()
    assert record is not None
    assert record.position == 12
    journal.acquire(record)
    journal.release()
    assert time.monotonic() - begin < 3


def test_a_lease_of_another_machine_is_watched(server_db: Connection, migration: str) -> None:
    first = QdrantJournal(server_db, migration)
    first.acquire(started(migration))
    first.release()
    pretend(server_db, migration, owner=elsewhere())
    begin = time.monotonic()
    second = QdrantJournal(server_db, migration, ttl=2.0)
    second.acquire(started(migration))
    assert time.monotonic() - begin >= 2
    second.release()


def test_a_heartbeat_from_another_machine_refuses(server_db: Connection, migration: str) -> None:
    first = QdrantJournal(server_db, migration)
    first.acquire(started(migration))
    first.release()
    pretend(server_db, migration, owner=elsewhere())
    timer = threading.Timer(0.5, pretend, (server_db, migration), {"heartbeat": 1000})
    timer.start()
    with pytest.raises(LeaseError, match="process 4711 on far"):
        QdrantJournal(server_db, migration, ttl=5.0).acquire(started(migration))
    timer.join()


def test_the_holder_notices_that_its_lease_was_taken(server_db: Connection, migration: str) -> None:
    journal = QdrantJournal(server_db, migration)
    held = journal.acquire(started(migration))
    pretend(server_db, migration, owner=elsewhere(), position=77)
    with pytest.raises(LeaseError, match="lost"):
        journal.save(replace(held, position=78))
    journal.release()
    after = journal.load()
    assert after is not None
    assert (after.owner, after.position) == (elsewhere_of(after.owner), 77)


def elsewhere_of(owner: str) -> str:
    parsed = Owner.parse(owner)
    assert parsed is not None
    assert parsed.hostname == "far"
    return owner


def test_the_heart_beats_while_nothing_is_saved(server_db: Connection, migration: str) -> None:
    journal = QdrantJournal(server_db, migration, ttl=1.0)
    before = journal.acquire(started(migration)).heartbeat
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        record = journal.load()
        assert record is not None
        if record.heartbeat > before + 1:
            break
        time.sleep(0.05)
    journal.release()
    assert record.heartbeat > before + 1
    assert record.position == 12


def test_of_many_runs_that_start_together_one_wins(server_db: Connection, migration: str) -> None:
    journals = [QdrantJournal(server_db, migration, ttl=1.0) for _ in range(6)]
    line = threading.Barrier(len(journals))

    def run(journal: QdrantJournal) -> bool:
        line.wait()
        try:
            journal.acquire(started(migration))
        except LeaseError:
            return False
        return True

    with ThreadPoolExecutor(len(journals)) as pool:
        won = list(pool.map(run, journals))
    assert sum(won) == 1
    journals[won.index(True)].save(started(migration))
    for journal in journals:
        journal.release()


def test_loading_creates_nothing(embedded_db: Connection) -> None:
    assert QdrantJournal(embedded_db, "m").load() is None
    assert embedded_db.client.get_collections().collections == []


def test_a_leftover_of_a_former_process_in_a_folder_is_dead(embedded_db: Connection) -> None:
    first = QdrantJournal(embedded_db, "m")
    first.acquire(started("m"))
    first.release()
    pretend(embedded_db, "m", owner=elsewhere())
    begin = time.monotonic()
    QdrantJournal(embedded_db, "m").acquire(started("m"))
    assert time.monotonic() - begin < 1


def test_the_record_is_a_readable_point(server_db: Connection, migration: str) -> None:
    journal = QdrantJournal(server_db, migration)
    journal.acquire(started(migration))
    journal.release()
    condition = models.FieldCondition(key="migration", match=models.MatchValue(value=migration))
    found, _ = server_db.client.scroll(JOURNAL, models.Filter(must=[condition]))
    assert found[0].payload is not None
    assert found[0].payload["phase"] == "backfilling"
    assert found[0].payload["counts"]["encoded"] == 4
