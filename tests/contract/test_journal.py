"""One contract for every journal: the fake, the embedded Qdrant and the real server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from xbtmigrate.migration.phases import MigrationRecord
from xbtmigrate.qdrant.journal.journal import QdrantJournal
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.testing.journals import JournalContract, MemoryJournal, OpenJournal


class TestMemoryJournal(JournalContract):
    @pytest.fixture
    def open_journal(self) -> OpenJournal:
        records: dict[str, MigrationRecord] = {}
        return lambda migration: MemoryJournal(migration, records)


def opener(connection: Connection) -> Iterator[OpenJournal]:
    # Records stay on a shared server, so every test has its own migrations.
    suffix = uuid.uuid4().hex
    opened: list[QdrantJournal] = []

    def open_journal(migration: str) -> QdrantJournal:
        opened.append(QdrantJournal(connection, migration + suffix, ttl=1.0))
        return opened[-1]

    yield open_journal
    for journal in opened:
        journal.release()


class TestEmbeddedJournal(JournalContract):
    @pytest.fixture
    def open_journal(self, embedded_db: Connection) -> Iterator[OpenJournal]:
        yield from opener(embedded_db)


@pytest.mark.server
class TestServerJournal(JournalContract):
    @pytest.fixture
    def open_journal(self, server_db: Connection) -> Iterator[OpenJournal]:
        yield from opener(server_db)


@pytest.mark.server
class TestGrpcJournal(JournalContract):
    @pytest.fixture
    def open_journal(self, grpc_db: Connection) -> Iterator[OpenJournal]:
        yield from opener(grpc_db)
