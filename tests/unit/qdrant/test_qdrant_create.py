"""The requests that add and remove a vector's name, on servers that can and no test can have.

What is expected is the published API: https://api.qdrant.tech/v-1-19-x/api-reference/collections/
create-vector-name, delete-vector-name and update-collection.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from qdrant_client import QdrantClient

from xbtmigrate.qdrant.collection.facts import inspect
from xbtmigrate.qdrant.gallery.create import prepare
from xbtmigrate.qdrant.gallery.layout import NewSpace, choose_layout
from xbtmigrate.qdrant.gallery.remove import drop_vector
from xbtmigrate.qdrant.gallery.settings import compare_settings
from xbtmigrate.qdrant.wire.connection import Connection, Version
from xbtmigrate.types import Distance

OLD = {"size": 4, "distance": "Cosine", "on_disk": True, "hnsw_config": {"m": 24}}
SETTINGS = {"hnsw_config": {"m": 24, "ef_construct": 256}, "on_disk": True}
NEW = NewSpace("new", 3, Distance.COSINE)


@dataclass
class Server:
    """Answers as a server with one collection does, and keeps what changes it."""

    vectors: dict[str, dict[str, Any]] = field(default_factory=lambda: {"old": dict(OLD)})
    changes: list[tuple[str, str, Any]] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path, body = request.url.path, json.loads(request.content or b"null")
        if request.method in ("PUT", "PATCH", "DELETE"):
            self.changes.append((request.method, request.url.raw_path.decode(), body))
            return self._change(path, body, request.method)
        results: dict[str, Any] = {
            "/collections": {"collections": [{"name": "c"}]},
            "/collections/c": self._info(),
            "/collections/c/cluster": {
                "peer_id": 1, "shard_count": 1, "local_shards": [], "remote_shards": [],
                "shard_transfers": [],
            },
            "/collections/c/points/count": {"count": 5},
        }  # fmt: skip
        return answer(results[path])

    def _change(self, path: str, body: Any, method: str) -> httpx.Response:
        name = path.rpartition("/")[2]
        if method == "PUT":
            self.vectors[name] = dict(body["dense"])
        elif method == "DELETE":
            del self.vectors[name]
        else:
            for each, settings in body["vectors"].items():
                self.vectors[each] |= settings
            return answer(True)
        return answer({"operation_id": 1, "status": "completed"})

    def _info(self) -> dict[str, Any]:
        config = {
            "params": {"vectors": self.vectors},
            "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000},
            "optimizer_config": {
                "deleted_threshold": 0.2, "vacuum_min_vector_number": 1000,
                "default_segment_number": 0, "flush_interval_sec": 5,
            },
        }  # fmt: skip
        return {
            "status": "green", "optimizer_status": "ok", "segments_count": 1, "config": config,
            "payload_schema": {},
        }  # fmt: skip


def answer(result: Any) -> httpx.Response:
    return httpx.Response(200, json={"result": result, "status": "ok", "time": 0.0})


def connection(server: Server, version: Version) -> Connection:
    client = QdrantClient(url="http://qdrant.test", check_compatibility=False)
    transport = httpx.MockTransport(server)
    client.http.client._client = httpx.Client(transport=transport, base_url="http://qdrant.test")
    return Connection(client, "server", version, "http://qdrant.test")


def test_a_name_is_added_and_then_given_the_settings_of_the_old_one():
    server = Server()
    opened = connection(server, (1, 18, 0))
    facts = inspect(opened, "c", "old")
    choice = choose_layout(facts, opened, None, NEW)
    assert choice.creates_vector
    prepare(opened, facts, choice)
    assert server.changes == [
        (
            "PUT",
            "/collections/c/vectors/new?wait=true",
            {"dense": {"size": 3, "distance": "Cosine"}},
        ),
        ("PATCH", "/collections/c", {"vectors": {"new": SETTINGS}}),
    ]
    assert compare_settings(opened, facts, choice) == []


def test_a_run_that_was_killed_between_name_and_settings_is_made_good():
    server = Server()
    opened = connection(server, (1, 18, 0))
    facts = inspect(opened, "c", "old")
    choice = choose_layout(facts, opened, None, NEW)
    server.vectors["new"] = {"size": 3, "distance": "Cosine"}
    assert len(compare_settings(opened, facts, choice)) == 2
    prepare(opened, facts, choice)
    assert server.changes == [("PATCH", "/collections/c", {"vectors": {"new": SETTINGS}})]
    assert compare_settings(opened, facts, choice) == []


@pytest.mark.parametrize(
    ("version", "changes"),
    [
        ((1, 18, 2), []),
        ((1, 19, 0), [("DELETE", "/collections/c/vectors/old?wait=true", None)]),
    ],
)
def test_a_name_is_removed_where_that_loses_no_points(version: Version, changes: list[Any]):
    server = Server()
    opened = connection(server, version)
    assert [drop_vector(opened, "c", "old") for _ in range(2)] == [bool(changes)] * 2
    assert server.changes == changes
