"""`xbtmigrate serve` as an application in another language meets it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from qdrant_client import QdrantClient

from tests.support.checks import snapshot
from tests.support.command import PROGRAM, SETTINGS, inside, xbtmigrate
from tests.support.migrating import Migrating, new_model, old_model
from xbtmigrate.types import normalized

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("serve")]

KEY = "a-key-for-clients"


@dataclass
class Running:
    """A service in a process of its own."""

    process: subprocess.Popen[str]
    http: httpx.Client

    def search(self, **body) -> dict:
        answer = self.http.post("/search", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def metric(self, name: str) -> float:
        lines = self.http.get("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=30)
        self.http.close()
        return self.process.returncode


def serve(folder: Path, *options: str) -> Running:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [*PROGRAM, "serve", "--port", str(port), *options],
        cwd=folder,
        env=os.environ | SETTINGS | {"XBTMIGRATE_SERVICE_KEY": KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    running = Running(process, httpx.Client(base_url=url, headers={"api-key": KEY}, timeout=60))
    for _ in range(600):
        assert process.poll() is None, process.communicate()[0]
        try:
            if running.http.get("/healthz").status_code == 200:
                return running
        except httpx.TransportError:
            time.sleep(0.1)
    process.kill()
    raise AssertionError(process.communicate()[0])


@pytest.fixture(scope="module")
def migrating(qdrant_url: str, tmp_path_factory) -> Migrating:
    client = QdrantClient(url=qdrant_url, check_compatibility=False)
    folder = tmp_path_factory.mktemp("serve")
    started = Migrating.start(client, qdrant_url, folder, layout="in_place", count=300)
    client.close()
    return started


@pytest.fixture(scope="module")
def service(migrating: Migrating) -> Iterator[Running]:
    running = serve(migrating.folder, "--demand", "demand.parquet")
    yield running
    assert running.stop() == -signal.SIGTERM


def ids(found: dict) -> list[int]:
    return [hit["id"] for hit in found["points"]]


def test_answers_as_the_collection_does_and_follows_the_migration(migrating, service):
    texts = migrating.clipart.captions[:20]
    expected = migrating.nearest(old_model(texts), migrating.clipart.old, 5)
    found = [service.search(text=text, limit=5) for text in texts]
    assert [ids(each) for each in found] == expected
    assert {(each["serving"], each["phase"], each["note"]) for each in found} == {
        ("keep", None, "")
    }
    assert service.http.get("/readyz").json() == {"status": "ok", "phase": None, "problem": ""}

    migrating.backfill(1.0)
    assert service.http.get("/readyz").json()["phase"] == "backfilled"
    after = service.search(text=texts[0], limit=5, with_payload=["caption"])
    assert after["serving"] == "keep", "nothing changes before the cutover"
    assert set(after["points"][0]["payload"]) <= {"caption"}


def test_takes_vectors_filters_and_pages(migrating, service):
    text = migrating.clipart.captions[3]
    new, old = (model([text])[0].tolist() for model in (new_model, old_model))
    assert ids(service.search(vector=new, old_vector=old)) == ids(service.search(text=text))
    first, second = (service.search(text=text, limit=4, offset=start) for start in (0, 4))
    assert ids(first) + ids(second) == ids(service.search(text=text, limit=8))
    chosen = migrating.clipart.ids[::10]
    filtered = service.search(text=text, filter={"must": [{"has_id": chosen}]})
    assert ids(filtered)
    assert set(ids(filtered)) <= set(chosen)


def test_embeds_by_either_model(migrating, service):
    texts = migrating.clipart.captions[:3]
    for model, vectors in (("new", new_model(texts)), ("old", old_model(texts))):
        said = service.http.post("/embed", json={"texts": texts, "model": model}).json()
        assert said["dimension"] == vectors.shape[1]
        found = np.array(said["vectors"], np.float32)
        assert normalized(found) == pytest.approx(vectors, abs=1e-3)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "exactly one"),
        ({"text": "a", "vector": [1.0]}, "exactly one"),
        ({"text": "a", "limt": 3}, "limt"),
        ({"vector": [1.0, 2.0]}, "a vector of 2 numbers"),
        ({"text": "a", "limit": 100_000}, "limit"),
        ({"text": "a", "filter": {"must": 3}}, "filter"),
        ({"image": "/etc/passwd.png"}, "image"),
        ({"image": "http://127.0.0.1/x.png"}, "image"),
        ({"text": "no model has embedded this"}, "cannot be embedded"),
    ],
)
def test_refuses_what_is_wrong(service, body, named):
    answer = service.http.post("/search", json=body)
    assert answer.status_code == 422, answer.text
    assert named in answer.json()["error"]


def test_asks_for_the_key_and_limits_the_body(service):
    for route in ("/search", "/embed"):
        assert service.http.post(route, json={}, headers={"api-key": "no"}).status_code == 401
    assert service.http.get("/metrics", headers={"api-key": ""}).status_code == 401
    assert service.http.get("/healthz", headers={"api-key": ""}).status_code == 200
    assert service.http.post("/search", content=b" " * (5 * 2**20)).status_code == 413


def test_counts_what_it_answers(migrating, service):
    name = 'xbtmigrate_service_requests_total{route="/search",status="200"}'
    before = service.metric(name)
    service.search(text=migrating.clipart.captions[0])
    assert service.metric(name) == before + 1
    assert service.metric("xbtmigrate_service_phase{") == 1


@pytest.mark.parametrize("mode", ["canary", "shadow-read"])
def test_tries_the_new_serving_beside_the_old(migrating, service, mode):
    texts = migrating.clipart.captions[:12]
    trial = serve(migrating.folder, f"--{mode}", "1.0", "--serving", "single")
    try:
        found = [trial.search(text=text, limit=5) for text in texts]
        wanted = {"canary": "single", "shadow-read": "keep"}[mode]
        assert {each["serving"] for each in found} == {wanted}
        for _ in range(100):
            if trial.metric("xbtmigrate_trial_agreement_count") == len(texts):
                break
            time.sleep(0.1)
        news, olds = new_model(texts), old_model(texts)
        sides = zip(
            migrating.nearest(news, migrating.clipart.new, 5),
            migrating.nearest(olds, migrating.clipart.old, 5),
            strict=True,
        )
        agreed = sum(len(set(a) & set(b)) / 5 for a, b in sides)
        assert trial.metric("xbtmigrate_trial_agreement_sum") == pytest.approx(agreed)
        for side in ("new", "old"):
            name = 'xbtmigrate_search_seconds_count{serving="'
            lines = trial.http.get("/metrics").text.splitlines()
            counts = [line for line in lines if line.startswith(name) and f'side="{side}"' in line]
            assert sum(float(line.rsplit(" ", 1)[1]) for line in counts) == len(texts)
    finally:
        # As docs/commands.md says: nothing is interrupted.
        assert trial.stop(signal.SIGINT) == 0


def test_refuses_to_start_on_wrong_terms(migrating):
    for options, named in (
        (["--host", "0.0.0.0"], "strangers"),
        (["--canary", "0.5", "--shadow-read", "0.5"], "exclude each other"),
        (["--canary", "0.5", "--no-old-model"], "--no-old-model"),
        (["--api-key-file", "absent"], "absent"),
        (["--serving", "magic"], "magic"),
    ):
        code, out, err = inside("serve", *options, cwd=migrating.folder)
        assert (code, out) != (0, ""), err
        assert named in err
    assert "/search" in xbtmigrate("serve", "--help", cwd=migrating.folder).stdout


def test_keeps_its_description_under_random_requests(migrating, service, tmp_path):
    """Every answer is one that it describes, and no point, payload or record is touched."""
    client = QdrantClient(url=migrating.url, check_compatibility=False)
    before = snapshot(client, migrating.name, "_xbtmigrate")
    checks = [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
        "unsupported_method",
        "ignored_auth",
    ]
    fuzzed = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run"),
            f"{str(service.http.base_url).rstrip('/')}/openapi.json",
            *("--header", f"api-key: {KEY}", "--checks", ",".join(checks)),
            *("--max-examples", "25", "--seed", "1", "--no-color"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=tmp_path,
    )
    assert fuzzed.returncode == 0, fuzzed.stdout[-6000:] + fuzzed.stderr[-2000:]
    assert snapshot(client, migrating.name, "_xbtmigrate") == before
    client.close()
