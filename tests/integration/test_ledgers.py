"""The ledger in Qdrant is whole, an earlier one, or an error."""

from __future__ import annotations

import os
import uuid

import pytest
from qdrant_client import models

from xbtmigrate.errors import ArtefactError
from xbtmigrate.qdrant.journal.kept_hashes import (
    fetch_ledger,
    forget_ledger,
    has_ledger,
    store_ledger,
)
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.own_collection import JOURNAL

pytestmark = pytest.mark.server
PARTS = models.FieldCondition(key="kind", match=models.MatchValue(value="ledger_part"))


def parts_of(connection: Connection, migration: str) -> models.Filter:
    own = models.FieldCondition(key="migration", match=models.MatchValue(value=migration))
    return models.Filter(must=[PARTS, own])


@pytest.fixture(params=["embedded_db", "server_db"])
def connection(request: pytest.FixtureRequest) -> Connection:
    return request.getfixturevalue(request.param)


def test_the_last_one_stored_is_returned_and_its_forerunner_is_gone(connection: Connection):
    mine, other = uuid.uuid4().hex, uuid.uuid4().hex
    assert fetch_ledger(connection, mine) is None
    large, small = os.urandom(2_500_000), b"small"
    store_ledger(connection, other, large)
    store_ledger(connection, mine, large)
    assert fetch_ledger(connection, mine) == large
    store_ledger(connection, mine, small)
    assert fetch_ledger(connection, mine) == small
    count = connection.client.count(JOURNAL, parts_of(connection, mine), exact=True).count
    assert count == 1
    assert fetch_ledger(connection, other) == large
    forget_ledger(connection, mine)
    assert not has_ledger(connection, mine)
    assert has_ledger(connection, other)


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_part_that_is_missing_or_damaged_is_an_error(damage: str, connection: Connection):
    mine = uuid.uuid4().hex
    store_ledger(connection, mine, b"content")
    if damage == "gone":
        connection.client.delete(JOURNAL, parts_of(connection, mine), wait=True)
    else:
        found, _ = connection.client.scroll(JOURNAL, parts_of(connection, mine))
        connection.client.set_payload(JOURNAL, {"data": "b3RoZXI="}, [found[0].id], wait=True)
    with pytest.raises(ArtefactError, match="incomplete"):
        fetch_ledger(connection, mine)
