"""Records of the journal that something else has changed: named, and no harm to the others."""

from __future__ import annotations

import base64
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models

from xbtmigrate.errors import ArtefactError, UnsupportedError, XbtMigrateError
from xbtmigrate.migration.phases import MigrationRecord, Phase
from xbtmigrate.qdrant.journal.journal import QdrantJournal
from xbtmigrate.qdrant.journal.published import KIND, fetch, publish
from xbtmigrate.qdrant.journal.run_control import Control
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.own_collection import (
    JOURNAL,
    ensure_journal,
    find_shadow_record,
    record_id,
    record_shadow,
)
from xbtmigrate.serving.artefact_source import JournalSource, find_source
from xbtmigrate.serving.round_trips import run
from xbtmigrate.types import Distance

FILES = {"plan.json": b"{}", "serving/bank.parquet": b"PAR1" * 100}


def put(connection: Connection, point: str, payload: dict[str, Any]) -> None:
    ensure_journal(connection)
    stored = models.PointStruct(id=point, vector={}, payload=payload)
    connection.client.upsert(JOURNAL, [stored], wait=True)


RECORDS: list[dict[str, Any]] = [
    {}, {"phase": 3}, {"phase": "nowhere"}, {"plan_digest": None}, {"plan_digest": []},
    {"counts": 3}, {"counts": {"projected": "many"}}, {"counts": None, "stage": "x"},
    {"heartbeat": {}}, {"owner": 5}, {"fraction": "half"}, {"switch": [1]}, {"seconds": [[]]},
    {"updated_at": 7}, {"verified_at": {}}, {"tool_version": ["1"]}, {"cursor": 3},
]  # fmt: skip


@pytest.mark.parametrize("change", RECORDS)
def test_a_damaged_record_of_a_migration_is_named(embedded_db, change):
    whole = {"migration": "ours", "phase": "planned", "plan_digest": "p", "kind": "migration"}
    put(embedded_db, record_id("migration", "ours"), whole | change if change else {"a": 1})
    with pytest.raises(ArtefactError, match=r"record of the migration '\S+' in _xbtmigrate"):
        QdrantJournal(embedded_db, "ours").load()


def test_a_record_of_a_newer_version_is_told_from_a_damaged_one(embedded_db):
    newer = {"migration": "ours", "phase": "hovering", "plan_digest": "p", "tool_version": "99.1"}
    put(embedded_db, record_id("migration", "ours"), newer)
    with pytest.raises(UnsupportedError, match=r"99\.1"):
        QdrantJournal(embedded_db, "ours").load()
    put(embedded_db, record_id("migration", "ours"), newer | {"tool_version": "9" * 9_000})
    with pytest.raises(XbtMigrateError):
        QdrantJournal(embedded_db, "ours").load()
    put(embedded_db, record_id("migration", "ours"), newer | {"phase": "planned", "more": 1})
    assert QdrantJournal(embedded_db, "ours").load() == MigrationRecord(
        "ours", Phase.PLANNED, "p", tool_version="99.1"
    )


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("command", {"limits": 3}),
        ("command", {"limits": {"max_slowdown": "fast"}}),
        ("command", {"paused": []}),
        ("load", {"pauses": [1]}),
        ("load", {"state": "running", "slowdown": "much"}),
        ("load", {"pauses": {"rate": {"count": 1}}}),
    ],
)
def test_a_damaged_command_or_load_is_named(embedded_db, kind, payload):
    put(embedded_db, record_id(kind, "ours"), payload)
    control = Control(embedded_db, "ours")
    with pytest.raises(ArtefactError, match="'ours' in _xbtmigrate is damaged"):
        control.read_command() if kind == "command" else control.read_load()


def test_a_damaged_mark_of_a_shadow_is_named(embedded_db):
    mark = "source", "new", 4, Distance.COSINE
    record_shadow(embedded_db, "shade", mark)
    assert find_shadow_record(embedded_db, "shade") == mark
    for payload in ({"source": "a"}, {"size": "big"}, {"distance": "far"}):
        put(embedded_db, record_id("shadow", "shade"), payload)
        with pytest.raises(ArtefactError, match="shadow 'shade'"):
            find_shadow_record(embedded_db, "shade")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    inside = tmp_path / "empty" / "inside"
    inside.mkdir(parents=True)
    return inside


def republished(connection: Connection, **change: Any) -> None:
    publish(connection, "ours", ["things"], "old", FILES)
    [record] = connection.client.retrieve(JOURNAL, [record_id(KIND, "ours")])
    put(connection, record_id(KIND, "ours"), {**(record.payload or {}), **change})


@pytest.mark.parametrize(
    "change",
    [{"parts": 10**8}, {"parts": 0}, {"parts": -1}, {"parts": "x"}, {"digest": "0" * 64},
     {"digest": 5}, {"parts": 2}, {"vector": None}],
)  # fmt: skip
def test_a_damaged_record_of_files_is_named_and_can_be_written_over(embedded_db, folder, change):
    republished(embedded_db, **change)
    with pytest.raises(ArtefactError, match="of 'ours'") as caught:
        fetch(embedded_db, "ours", folder)
    assert "publish" in caught.value.hint
    assert list(folder.iterdir()) == []
    publish(embedded_db, "ours", ["things"], "old", FILES)
    assert fetch(embedded_db, "ours", folder)
    assert (folder / "serving/bank.parquet").read_bytes() == FILES["serving/bank.parquet"]


def archive(files: dict[str, bytes]) -> str:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as content:
        for name, data in files.items():
            content.writestr(name, data)
    return base64.b64encode(packed.getvalue()).decode()


def test_a_hostile_archive_writes_nothing(embedded_db, folder):
    published = publish(embedded_db, "ours", ["things"], "old", FILES)
    hostile = [
        archive({"plan.json": b"\0" * 300 * 2**20}),
        archive({"../outside": b"x"}),
        archive({"plan.json": b"{}"}),
        "AAAA",
        "?",
        3,
        None,
    ]
    for data in hostile:
        put(embedded_db, published.part_ids[0], {"data": data})
        with pytest.raises(ArtefactError, match="are incomplete"):
            fetch(embedded_db, "ours", folder)
        assert [*folder.iterdir(), *folder.parent.iterdir()] == [folder]
    outside = publish(embedded_db, "ours", ["things"], "old", {"../outside": b"x", "a": b"y"})
    assert outside.parts == 1
    with pytest.raises(ArtefactError, match="outside the folder"):
        fetch(embedded_db, "ours", folder)
    assert [*folder.iterdir(), *folder.parent.iterdir()] == [folder]


def test_a_foreign_record_concerns_its_own_migration_alone(embedded_db):
    publish(embedded_db, "ours", ["things"], "old", FILES)
    for number, payload in enumerate(
        [{}, {"names": 3}, {"names": ["other"], "parts": []}, {"names": ["things"], "migration": 4}]
    ):
        put(embedded_db, record_id(KIND, f"foreign {number}"), {"kind": KIND, **payload})
    found = run(embedded_db.client, find_source("things", None, None))
    assert found == JournalSource("ours")
    with pytest.raises(ArtefactError, match="no migration of"):
        run(embedded_db.client, find_source("nothing", None, None))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path_factory, monkeypatch) -> None:
    monkeypatch.chdir(Path(tmp_path_factory.mktemp("elsewhere")))
