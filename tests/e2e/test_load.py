"""A run that is paused, resumed and throttled from another shell, and slows down for others."""

from __future__ import annotations

import json
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.checks import check_vectors
from tests.support.collections import fresh_name
from tests.support.command import answer_inside, inside, start
from tests.support.proxy import Proxy, Request, proxied
from tests.support.qdrant_server import free_port
from tests.support.texts import Service, Texts, embedding_service, write_text_config
from xbtmigrate.backfill.pace import WINDOW, WINDOWS
from xbtmigrate.qdrant.collection.probe_process import WARM_UP
from xbtmigrate.qdrant.journal.run_control import Control
from xbtmigrate.qdrant.wire.connection import Connection

pytestmark = [pytest.mark.long, pytest.mark.server]
COUNT = 400
RUN = ("backfill", "--online", "--fraction", "1", "--batch-size", "50", "--json")


@pytest.fixture
def service() -> Iterator[Service]:
    with embedding_service() as running:
        yield running


@pytest.fixture
def proxy(qdrant_url: str) -> Iterator[Proxy]:
    with proxied(qdrant_url) as running:
        yield running


@pytest.fixture
def texts() -> Texts:
    return Texts.make(COUNT)


@pytest.fixture
def name(
    server_db: Connection, texts: Texts, service: Service, proxy: Proxy, tmp_path: Path
) -> str:
    """A collection, planned and trained, which the commands reach through the proxy."""
    name = fresh_name()
    texts.fill(server_db.client, name, both=True)
    write_text_config(tmp_path, proxy.url, name, texts, service, layout="in_place")
    answer_inside("plan", cwd=tmp_path)
    answer_inside("train-projector", "--kind", "ridge", "--pairs", "100", cwd=tmp_path)
    service.forget()
    return name


def wait_until(reached: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not reached():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def querying(db: Connection, name: str) -> Iterator[None]:
    """Query the collection meanwhile, as an application does."""
    ended = threading.Event()

    def query() -> None:
        while not ended.wait(0.02):
            db.client.query_points(name, query=[0.1] * 16, using="old", limit=1)

    thread = threading.Thread(target=query)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class Gate:
    """Holds the embedding service from its second request on, until it is opened."""

    def __init__(self, service: Service) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        service.on_request = self._pass

    def _pass(self, number: int) -> None:
        if number == 2:
            self.reached.set()
            assert self.opened.wait(timeout=120)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def check_metrics(port: str, migration: str) -> None:
    """A scrape tells of the paused run."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        figures = answer.read().decode()
    assert f'xbtmigrate_state{{migration="{migration}",state="paused"}} 1.0' in figures
    labels = f'{{kind="projected",migration="{migration}"}}'
    assert f"xbtmigrate_points_written_total{labels} {COUNT}.0" in figures


def test_paused_killed_and_resumed(
    server_db: Connection, texts: Texts, service: Service, name: str, tmp_path: Path
):
    for verb in (("pause",), ("resume",), ("throttle", "--off")):
        code, _, err = inside(*verb, cwd=tmp_path)
        assert (code, "no run of migration" in err) == (3, True), err

    port = str(free_port())
    metrics = ("--metrics-port", port)
    gate, first = Gate(service), start(*RUN, *metrics, cwd=tmp_path)
    try:
        wait_until(gate.reached.is_set, first)
        code, _, err = inside(*RUN, *metrics, cwd=tmp_path)
        assert (code, f"cannot be served at 127.0.0.1:{port}" in err) == (2, True), err
        paused = answer_inside("pause", cwd=tmp_path)
        assert (paused["running"], paused["paused"]) == (True, True)
        status = answer_inside("status", cwd=tmp_path)
        assert (status["load"]["state"], str(first.pid) in status["owner"]) == ("paused", True)
        assert "xbtmigrate resume" in status["load"]["reason"]
        gate.opened.set()
        throttled = answer_inside("throttle", "--max-rate", "5000", cwd=tmp_path)
        assert (throttled["paused"], throttled["max_rate"]) == (True, 5000)
        assert throttled["max_slowdown"] == 1.5
        after = answer_inside("status", cwd=tmp_path)
        assert after["encoded"] == status["encoded"] < COUNT
        assert after["load"]["pauses"]["request"]["count"] >= 1
        check_metrics(port, f"{name}-old")
    finally:
        first.kill()
    _, _, err = ended(first)
    assert "paused: by `xbtmigrate pause` at " in err

    second = start(*RUN, cwd=tmp_path)
    control = Control(server_db, f"{name}-old")
    control.publish_load({})
    try:
        wait_until(lambda: control.read_load().get("state") == "paused", second)
        load = answer_inside("status", cwd=tmp_path)["load"]
        assert (load["state"], load["max_rate"]) == ("paused", 5000)
        resumed = answer_inside("resume", cwd=tmp_path)
        assert (resumed["paused"], resumed["max_rate"]) == (False, 5000)
        code, out, err = ended(second)
    finally:
        second.kill()
    assert code == 0, err
    assert "resumed by `xbtmigrate resume`" in err
    assert json.loads(out)["gallery"]["encoded"] == COUNT
    assert answer_inside("status", cwd=tmp_path)["load"]["state"] == "ended"
    check_vectors(server_db.client, name, texts, tmp_path, encoded=COUNT)


def test_a_pause_whose_run_died_can_be_taken_back(service: Service, name: str, tmp_path: Path):
    gate, run = Gate(service), start(*RUN, cwd=tmp_path)
    try:
        wait_until(gate.reached.is_set, run)
        answer_inside("pause", cwd=tmp_path)
    finally:
        run.kill()
        gate.opened.set()
        run.communicate()
    resumed = answer_inside("resume", cwd=tmp_path)
    assert (resumed["running"], resumed["paused"]) == (False, False)
    assert resumed["next"] == "xbtmigrate backfill --online"
    assert inside("resume", cwd=tmp_path)[0] == 3
    assert answer_inside(*RUN[:-1], cwd=tmp_path)["gallery"]["encoded"] == COUNT


def test_slows_down_where_queries_become_slow(
    server_db: Connection, service: Service, proxy: Proxy, name: str, tmp_path: Path
):
    """The proxy delays probe answers once the time without the run has been taken."""
    probes = WARM_UP + WINDOW * WINDOWS
    asked = 0

    def delay(request: Request) -> None:
        nonlocal asked
        if request.path.endswith("/points/query"):
            asked += 1
            time.sleep(0.05 if asked > probes + WINDOW else 0)

    proxy.before = delay
    gate, run = Gate(service), start(*RUN, cwd=tmp_path)
    control = Control(server_db, f"{name}-old")
    try:
        wait_until(gate.reached.is_set, run)
        with querying(server_db, name):
            wait_until(lambda: control.read_load().get("state") == "throttled", run)
        load = answer_inside("status", cwd=tmp_path)["load"]
        assert load["probe_p95_ms"] > 50 > load["baseline_p95_ms"]
        assert load["slowdown"] > load["max_slowdown"] == 1.5
        assert "without this run; at most 1.5 times is allowed" in load["reason"]
        assert load["batch_size"] <= 256
        gate.opened.set()
        code, out, err = ended(run)
    finally:
        gate.opened.set()
        run.kill()
    assert code == 0, err
    assert "slower: queries take " in err
    assert json.loads(out)["gallery"]["encoded"] == COUNT
    assert answer_inside("status", cwd=tmp_path)["load"]["pauses"]["slowdown"]["count"] >= 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("backfill", "--online", "--max-slowdown", "0.9"),
        ("backfill", "--online", "--max-rate", "many"),
        ("throttle",),
        ("throttle", "--off", "--reset"),
        ("throttle", "--max-rate", "0"),
        ("throttle", "--max-slowdown", "nan"),
    ],
)
def test_limits_that_are_none_are_refused(name: str, tmp_path: Path, arguments: tuple[str, ...]):
    code, _, err = inside(*arguments, cwd=tmp_path)
    assert (code, "hint: " in err) == (2, True), err
