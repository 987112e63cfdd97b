"""What a key may do is known before anything is written."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from qdrant_client import models

from tests.support.clipart import Clipart, write_config
from tests.support.command import answer_inside
from tests.support.qdrant_server import Server, running_server
from xbtmigrate.errors import ConnectionFailedError
from xbtmigrate.qdrant.wire.connect import check_writable, connect

pytestmark = pytest.mark.server
KEY, READ_ONLY = "the-master-key", "the-reading-key"


def token(access: object) -> str:
    def encoded(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    parts = [{"alg": "HS256", "typ": "JWT"}, {"access": access}]
    text = ".".join(encoded(json.dumps(part).encode()) for part in parts)
    return f"{text}.{encoded(hmac.digest(KEY.encode(), text.encode(), hashlib.sha256))}"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    settings = {
        "QDRANT__SERVICE__API_KEY": KEY,
        "QDRANT__SERVICE__READ_ONLY_API_KEY": READ_ONLY,
        "QDRANT__SERVICE__JWT_RBAC": "true",
    }
    with running_server(settings) as server:
        with connect(server.url, api_key=KEY) as connection:
            config = {"old": models.VectorParams(size=2, distance=models.Distance.DOT)}
            connection.client.create_collection("c", vectors_config=config)
            points = [models.PointStruct(id=1, vector={"old": [1.0, 2.0]}, payload={"text": "t"})]
            connection.client.upsert("c", points)
        yield server


@pytest.mark.parametrize("prefer_grpc", [False, True])
@pytest.mark.parametrize("key", [None, "wrong"])
def test_wrong_credentials(guarded: Server, key: str | None, prefer_grpc: bool) -> None:
    with pytest.raises(ConnectionFailedError, match="refused the credentials"):
        connect(guarded.url, api_key=key, prefer_grpc=prefer_grpc, grpc_port=guarded.grpc_port)


@pytest.mark.parametrize("prefer_grpc", [False, True])
@pytest.mark.parametrize(
    ("key", "lacking"),
    [
        (READ_ONLY, "write points of 'c'"),
        (token("r"), "write points of 'c'"),
        (token([{"collection": "c", "access": "r"}]), "write points of 'c'"),
        (token([{"collection": "c", "access": "rw"}]), "create collections"),
    ],
)
def test_a_key_that_may_not_migrate(
    guarded: Server, key: str, lacking: str, prefer_grpc: bool
) -> None:
    with connect(
        guarded.url, api_key=key, prefer_grpc=prefer_grpc, grpc_port=guarded.grpc_port
    ) as connection:
        with pytest.raises(ConnectionFailedError, match=f"no right to {lacking}") as caught:
            check_writable(connection, "c")
        assert "api_key_env" in caught.value.hint


def test_plan_and_doctor_say_that_a_key_may_not_migrate(
    guarded: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clipart = Clipart.load(120)
    with connect(guarded.url, api_key=KEY) as connection:
        clipart.fill(connection.client, "clipart")
    monkeypatch.setenv("A_KEY", READ_ONLY)
    write_config(
        tmp_path,
        guarded.url,
        "clipart",
        qdrant='api_key_env = "A_KEY"',
        strategy="full",
        layout="in_place",
    )
    findings = answer_inside("plan", cwd=tmp_path)["findings"]
    assert [(each["name"], each["blocks"]) for each in findings] == [("rights", False)]
    (finding,) = answer_inside("doctor", cwd=tmp_path, expect=3)["findings"]
    assert finding["name"] == "backfill_refused"
    assert finding["message"] == findings[0]["message"]
    assert "api_key_env" in finding["way_out"]
    refused = answer_inside("backfill", "--online", cwd=tmp_path, expect=1)["error"]
    assert refused["message"] == finding["message"]


@pytest.mark.parametrize("key", [KEY, token("m")])
def test_a_key_that_may(guarded: Server, key: str) -> None:
    with connect(guarded.url, api_key=key) as connection:
        check_writable(connection, "c")
        points, _ = connection.client.scroll("c", with_vectors=True)
        assert [(each.id, each.payload, each.vector) for each in points] == [
            (1, {"text": "t"}, {"old": [1.0, 2.0]})
        ]
        assert {each.name for each in connection.client.get_collections().collections} <= {
            "c",
            "clipart",
        }
