"""A backfill that is stopped in any way at any moment goes on from there, and pays nothing twice.

A proxy in front of the real server lets each test act at an exact request of a run, and the new
model is a service that counts every text it was asked for.
"""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import pytest
from qdrant_client import QdrantClient

from tests.support.collections import fresh_name
from tests.support.command import answer_inside, start
from tests.support.proxy import DroppedError, Proxy, Strike, proxied
from tests.support.qdrant_server import mortal_server
from tests.support.text_job import TextJob
from tests.support.texts import PAGE, Service, Texts, embedding_service
from xbtmigrate.qdrant.wire.connection import Connection

pytestmark = [pytest.mark.long, pytest.mark.server]
COUNT, FRACTION, BATCH, BUDGET = 600, 0.5, 25, 4
TARGET = int(COUNT * FRACTION)
RUN = (
    "backfill", "--online", "--fraction", str(FRACTION), "--batch-size", str(BATCH), "--json",
)  # fmt: skip


@pytest.fixture(scope="module")
def texts() -> Texts:
    return Texts.make(COUNT)


@pytest.fixture
def service() -> Iterator[Service]:
    with embedding_service() as running:
        yield running


@pytest.fixture
def proxy(qdrant_url: str) -> Iterator[Proxy]:
    with proxied(qdrant_url) as running:
        yield running


class Job(TextJob):
    """One whose backfill runs to whatever end."""

    __slots__ = ()

    def run(
        self, *more: str, strike: Strike | None = None, process: Future | None = None
    ) -> tuple[int, str, str]:
        """Run the backfill to whatever end; returns exit code, stdout and stderr."""
        running = start(*RUN, *more, cwd=self.folder)
        if process is not None:
            process.set_result(running)
        out, err = running.communicate(timeout=300)
        assert strike is None or strike.done.is_set(), f"ended before its moment\n{out}\n{err}"
        assert "Traceback" not in err, err
        return running.returncode, out, err

    def check(self, *, encoded: int = TARGET) -> None:
        self.check_encoded(encoded)


@pytest.fixture
def job(server_db: Connection, texts: Texts, service: Service, tmp_path: Path):
    def prepare(layout: str, url: str) -> Job:
        return Job(server_db.client, fresh_name(), texts, service, tmp_path, layout).make(url)

    return prepare


def killed_at(job: Job, proxy: Proxy, stage: str, requests: int, *, after: bool) -> None:
    """Run the backfill and kill -9 it at one request."""
    process: Future = Future()

    def kill() -> None:
        process.result(timeout=60).kill()
        process.result().wait()
        raise DroppedError

    strike = Strike(proxy, stage, requests, after, kill)
    code, out, err = job.run(strike=strike, process=process)
    assert code == -signal.SIGKILL, f"{code}\n{out}\n{err}"


@pytest.mark.parametrize(("seed", "layout"), [(0, "in_place"), (1, "shadow")])
def test_killed_again_and_again(seed: int, layout: str, job, proxy: Proxy):
    """Before the first write, while projecting, on the way to encoding, encoding, sweeping."""
    job = job(layout, proxy.url)
    rng = random.Random(seed)
    moments = [
        ("", rng.randint(1, 25)),
        ("project", rng.randint(1, 30)),
        ("encode", 1),
        ("encode", rng.randint(12, 40)),
        ("encode", rng.randint(1, 12)),
        ("sweep", rng.randint(1, 8)),
    ]
    for stage, requests in moments:
        before = job.repeated
        killed_at(job, proxy, stage, requests, after=rng.random() < 0.5)
        if stage in ("", "project"):
            assert not job.service.charged
        assert job.repeated - before <= BATCH
    before = job.repeated
    code, out, err = job.run()
    assert code == 0, err
    done = json.loads(out)
    assert (done["phase"], done["status"]) == ("backfilled", "complete")
    assert done["gallery"] == {
        "points": COUNT,
        "projected": COUNT - TARGET,
        "encoded": TARGET,
        "without_new": 0,
        "without_vector": {"no_content": 0, "refused": 0, "no_old_vector": 0},
    }
    assert job.repeated - before <= BATCH
    job.check()
    assert 0 < len(job.service.charged) < TARGET, "what the plan encoded is known"


def test_interrupted(job, proxy: Proxy):
    """Ctrl-C: the batch is finished, the phase is paused, and the same command completes."""
    job = job("in_place", proxy.url)
    for stage in ("project", "encode", "sweep"):
        process: Future = Future()
        interrupt = partial(_interrupt, process)
        strike = Strike(proxy, stage, 8, after=False, act=interrupt)
        code, out, err = job.run(strike=strike, process=process)
        assert code == 130, err
        assert "SIGINT: finishing the batch" in err
        stopped = json.loads(out)
        assert (stopped["phase"], stopped["status"]) == ("paused", "stopped: interrupted")
        assert stopped["next_note"] == "It continues from here."
        assert stopped["projected"] % PAGE == 0
    status = answer_inside("status", cwd=job.folder)
    assert (status["phase"], status["owner"], status["left"]) == ("paused", None, 0)
    code, out, err = job.run()
    assert (code, json.loads(out)["phase"]) == (0, "backfilled"), err
    assert job.repeated == 0
    job.check()


def _interrupt(process: Future) -> None:
    process.result(60).send_signal(signal.SIGINT)


def test_budget(job, proxy: Proxy):
    """The time given is kept, to the batch; the same command goes on."""
    job = job("shadow", proxy.url)
    asked = 0

    def slow(number: int) -> None:
        nonlocal asked
        asked = number
        if number == 2:
            time.sleep(BUDGET)

    job.service.on_request = slow
    code, out, err = job.run("--budget", f"{BUDGET}s")
    assert code == 0, err
    stopped = json.loads(out)
    assert (stopped["phase"], stopped["status"]) == ("paused", "stopped: time budget used up")
    assert asked <= 3  # a batch is asked for in two halves, and the one under way is finished
    assert stopped["next_note"] == "It continues from here."
    code, out, err = job.run()
    assert (code, json.loads(out)["phase"]) == (0, "backfilled"), err
    assert job.repeated == 0
    job.check()


def test_max_cost(job, proxy: Proxy):
    """The money given is kept, to the batch; the same command goes on."""
    job = job("in_place", proxy.url)
    config = job.folder / "xbtmigrate.toml"
    # The service counts a token for each text, so that each costs 1.
    priced = "[new_model]\nprice_per_million_tokens = 1e6"
    config.write_text(config.read_text("utf-8").replace("[new_model]", priced), "utf-8")
    answer_inside("plan", cwd=job.folder)
    job.service.forget()
    limit = 60
    code, out, err = job.run("--max-cost", str(limit))
    assert code == 0, err
    stopped = json.loads(out)
    assert (stopped["phase"], stopped["status"]) == ("paused", "stopped: cost limit reached")
    assert limit <= stopped["cost"] < limit + BATCH
    assert stopped["cost"] == job.service.charged.total()
    assert stopped["next_note"] == "It continues from here."
    code, out, err = job.run()
    assert (code, json.loads(out)["phase"]) == (0, "backfilled"), err
    assert job.repeated == 0
    job.check()


def test_the_server_dies(texts: Texts, service: Service, tmp_path: Path):
    """A restart goes unnoticed; staying away ends the run with a clear error; then it goes on."""
    with mortal_server() as mortal, proxied(mortal.server.url) as proxy:
        client = QdrantClient(url=mortal.server.url, check_compatibility=False)
        job = Job(client, fresh_name(), texts, service, tmp_path, "shadow").make(proxy.url)

        def die(number: int) -> None:
            if number == 3:
                mortal.kill()

        def die_and_come_back() -> None:
            mortal.kill()
            mortal.start()
            service.on_request = die
            raise DroppedError

        strike = Strike(proxy, "project", 9, after=False, act=die_and_come_back)
        code, out, err = job.run(strike=strike)
        assert 0 < len(service.charged) < TARGET, "it went on after the restart"
        assert code == 1, err
        assert json.loads(out)["error"]["type"] == "ConnectionFailedError"
        assert "does not answer" in err
        assert "run the same command again" in err
        service.on_request = lambda _: None
        mortal.start()
        code, out, err = job.run()
        assert (code, json.loads(out)["phase"]) == (0, "backfilled"), err
        assert job.repeated <= BATCH
        job.check()
        client.close()
