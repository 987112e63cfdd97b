"""A Ray cluster on this machine, a Qdrant server, and migrations that are ready to backfill."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray
from qdrant_client import QdrantClient

from tests.support.collections import fresh_name
from tests.support.command import answer, start
from tests.support.qdrant_server import Server, running_server
from tests.support.text_job import TextJob
from tests.support.texts import Service, Texts, embedding_service

COUNT, FRACTION, BATCH = 600, 0.5, 25
TARGET = int(COUNT * FRACTION)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster of this process.

    Attributes:
        address: Its address.
    """

    address: str

    def workers(self) -> list[int]:
        """The processes that are at work on a run, which Ray names after their class."""
        return [pid for pid in _below(os.getpid()) if _title(pid).startswith("ray::Worker")]

    def kill_a_worker(self, number: int) -> bool:
        """Kill -9 one of them; says whether there was one."""
        found = self.workers()
        if found:
            os.kill(found[number % len(found)], signal.SIGKILL)
        return bool(found)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Four places for workers; the processes end with the tests."""
    # Ray starts workers with the lowest priority but four: on a busy machine they take minutes.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - its name
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    try:
        yield Cluster(ray.get_runtime_context().gcs_address)
    finally:
        ray.shutdown()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture(scope="session")
def texts() -> Texts:
    return Texts.make(COUNT)


@pytest.fixture
def service() -> Iterator[Service]:
    with embedding_service() as running:
        yield running


@dataclass(frozen=True, slots=True)
class Job(TextJob):
    """One whose backfill runs on the cluster, or in its own process."""

    address: str

    def command(self, *more: str, engine: str = "ray") -> list[str]:
        """The backfill to half of the points."""
        command = ["backfill", "--online", "--fraction", str(FRACTION), "--batch-size", str(BATCH)]
        if engine == "ray":
            command += ["--engine", "ray", "--address", self.address]
        return [*command, *more]

    def run(self, *more: str, engine: str = "ray", expect: int = 0) -> dict:
        return answer(*self.command(*more, engine=engine), cwd=self.folder, expect=expect)

    def start(self, *more: str) -> subprocess.Popen[str]:
        return start(*self.command(*more), "--json", cwd=self.folder)

    def check(self) -> None:
        self.check_encoded(TARGET)


@pytest.fixture
def job(server: Server, texts: Texts, service: Service, tmp_path: Path, cluster: Cluster):
    made: list[Job] = []

    def prepare(layout: str, name: str = "job") -> Job:
        folder = tmp_path / name
        folder.mkdir()
        client = QdrantClient(url=server.url, check_compatibility=False)
        job = Job(client, fresh_name(), texts, service, folder, layout, cluster.address)
        made.append(job.make(server.url))
        return job

    yield prepare
    for each in made:
        each.client.close()


def _below(ancestor: int) -> Iterator[int]:
    """The processes that a process has started, and those that they have started."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        # A process may end while it is looked at.
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(path.parent.name)] = int(fields[1])
    for pid in parents:
        above = pid
        while above in parents and above != ancestor:
            above = parents[above]
        if above == ancestor and pid != ancestor:
            yield pid


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
