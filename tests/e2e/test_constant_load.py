"""From the first backfill to the end under queries and writes: none fails, is wrong or is lost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from qdrant_client import QdrantClient, models

from tests.support.command import answer
from tests.support.twins import Load, Twins, Writer, check_points
from xbtmigrate.serving import MigrationSearcher, wrap

pytestmark = [pytest.mark.long, pytest.mark.server]


@pytest.fixture(scope="module")
def client(qdrant_url: str):
    client = QdrantClient(url=qdrant_url, check_compatibility=False)
    yield client
    client.close()


@pytest.fixture(params=["in_place", "shadow"])
def twins(request, client: QdrantClient, qdrant_url: str, tmp_path: Path) -> Twins:
    return Twins.start(client, qdrant_url, tmp_path, request.param)


def wrapped_writer(twins: Twins, client: QdrantClient, load: Load) -> Writer:
    """Writes new-model vectors under the old name, as an application on a wrapped client does."""
    wrapped = wrap(client, twins.live, model="new", **twins.opening())

    def write(point: int, row: int) -> None:
        vector = {"old": twins.new[row].tolist()}
        payload = {"text": twins.texts[row]}
        point_struct = models.PointStruct(id=point, vector=vector, payload=payload)
        wrapped.upsert(twins.live, [point_struct], wait=True)

    return Writer(write, lambda point: wrapped.delete(twins.live, [point], wait=True), load.history)


def test_nothing_fails_and_nothing_is_lost_from_beginning_to_end(
    twins: Twins, client: QdrantClient
):
    searcher = MigrationSearcher.open(client, twins.live, serving="merge", **twins.opening())
    load = Load(twins, searcher)
    with load, wrapped_writer(twins, client, load) as writer:
        assert load.servings(20) == {"keep"}
        backfill = ("backfill", "--online", "--max-slowdown", "off", "--batch-size", "40")
        answer(*backfill, "--fraction", "0.5", "--max-rate", "400", cwd=twins.folder)
        assert load.servings(20) == {"merge"}
        answer(*backfill, "--fraction", "1", cwd=twins.folder)
        verified = answer("verify", "--max-stale", "50", cwd=twins.folder)
        assert verified["clean"], verified
        assert answer("cutover", "--yes", cwd=twins.folder)["phase"] == "cut_over"
        assert load.servings(20) == {"single"}
        assert answer("rollback", "--yes", cwd=twins.folder)["phase"] == "rolled_back"
        assert load.servings(20) == {"keep"}
        with writer.writing:
            check_points(client, twins.name, twins, writer.rows, "old")
        assert answer("verify", "--max-stale", "50", cwd=twins.folder)["clean"]
        assert answer("cutover", "--yes", cwd=twins.folder)["phase"] == "cut_over"
        with writer.writing:
            check_points(client, twins.target, twins, writer.rows, "new")
        by_name = wrap(client, twins.name, **twins.opening() | {"interval": 60})
        ending = ("finalize", "--confirm", twins.name, "--no-snapshot", "--notice", "5")
        answer(*ending, cwd=twins.folder)
        assert load.servings(20) == {"single"}
        turns = writer.turn
        while writer.turn < turns + 10 and not writer.wrong:
            time.sleep(0.05)
    assert (load.wrong, writer.wrong) == ([], [])
    check_points(client, twins.live, twins, writer.rows, "new")
    # A client that goes by the real name, and last looked before the end, is not lost either.
    assert by_name.count(twins.name).count == len(writer.rows)
    records, _ = client.scroll(twins.live, limit=10_000, with_vectors=True)
    assert {(*record.payload, *record.vector) for record in records} == {("text", "new")}
