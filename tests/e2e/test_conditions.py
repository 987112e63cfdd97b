"""What may run out, jump or get lost: a clear end, and the same command goes on."""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from qdrant_client import QdrantClient

from tests.support.checks import check_vectors
from tests.support.collections import fresh_name
from tests.support.command import answer_inside, inside, start
from tests.support.qdrant_server import running_server
from tests.support.texts import Service, Texts, embedding_service, write_text_config
from xbtmigrate.artefacts import Artefacts
from xbtmigrate.config import load_config
from xbtmigrate.migration import phases
from xbtmigrate.migration.plan import Plan
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.workflows.plan.plan import make_plan

pytestmark = [pytest.mark.long, pytest.mark.server]
COUNT = 200
LARGE = 28 * 2**20
BACKFILL = ("backfill", "--online", "--max-slowdown", "off", "--batch-size", "20")


@dataclass(frozen=True, slots=True)
class Job:
    """A collection in place, and the folder of its migration."""

    client: QdrantClient
    name: str
    texts: Texts
    service: Service
    folder: Path

    @property
    def artefacts(self) -> Path:
        return next((self.folder / ".xbtmigrate").iterdir())

    def run(self, *command: str, expect: int = 0) -> dict:
        return answer_inside(*command, cwd=self.folder, expect=expect)

    def ready(self) -> Job:
        self.run("plan")
        self.run("train-projector", "--kind", "ridge", "--pairs", "100")
        return self

    def findings(self) -> set[str]:
        code, out, _ = inside("doctor", "--json", cwd=self.folder)
        found = {each["name"] for each in json.loads(out)["findings"]}
        # Other tests leave probes and shadows on the same server.
        found -= {"leftover_probes", "orphan_record", "leftover_bench"}
        assert code in (0, 3)
        return found

    def check(self, encoded: int = COUNT) -> None:
        check_vectors(self.client, self.name, self.texts, self.folder, encoded=encoded)


@pytest.fixture
def job(server_db: Connection, qdrant_url: str, tmp_path: Path) -> Iterator[Job]:
    texts, name = Texts.make(COUNT), fresh_name()
    texts.fill(server_db.client, name, both=True)
    with embedding_service() as service:
        write_text_config(tmp_path, qdrant_url, name, texts, service, layout="in_place")
        yield Job(server_db.client, name, texts, service, tmp_path)


def may_mount() -> bool:
    """Whether this machine lets a process mount something in a namespace of its own."""
    trial = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return shutil.which("unshare") is not None and not subprocess.run(trial, check=False).returncode


def fill(disk: Path) -> None:
    """Leave no byte of a disk free."""
    with contextlib.suppress(OSError), (disk / "ballast").open("wb") as ballast:
        while True:
            ballast.write(bytes(4096))


def test_the_disk_of_the_server_is_full(tmp_path: Path) -> None:
    if not may_mount():
        pytest.skip("no small disk can be mounted here")
    with (
        running_server(disk=80) as server,
        contextlib.closing(QdrantClient(url=server.url, check_compatibility=False)) as client,
        embedding_service() as service,
    ):
        texts, name = Texts.make(COUNT), fresh_name()
        texts.fill(client, name, both=True)
        write_text_config(tmp_path, server.url, name, texts, service, layout="in_place")
        job = Job(client, name, texts, service, tmp_path).ready()
        service.forget()
        service.on_request = lambda number: fill(server.storage) if number == 3 else None
        refused = job.run(*BACKFILL, "--fraction", "1", expect=1)
        print(refused)
        assert "has no disk space left" in refused["error"]["message"]
        assert "free space on the server's disk" in refused["error"]["hint"]
        (server.storage / "ballast").unlink()
        service.on_request = lambda _: None
        assert job.findings() <= {"unfinished", "dead_lease"}
        job.run(*BACKFILL, "--fraction", "1")
        job.check()
        assert job.findings() == set()


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow further, which fails as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_disk_of_the_tool_is_full(job: Job) -> None:
    commands = (
        ("plan",),
        ("train-projector", "--kind", "ridge", "--pairs", "100"),
        (*BACKFILL, "--fraction", "1"),
    )
    for command in commands:
        with largest_file(1024):
            refused = job.run(*command, expect=1)
        assert refused["error"]["type"] in ("ArtefactError", "ExhaustedError")
        assert "File too large" in refused["error"]["message"]
        assert "space" in refused["error"]["hint"]
        assert job.findings() == set()
        job.run(*command)
    job.check()


def test_the_memory_of_the_tool_runs_out(job: Job) -> None:
    job.ready()
    job.service.forget()
    huge = {"text": "x" * LARGE}
    job.client.set_payload(job.name, huge, points=[COUNT], wait=True)
    running = start(*BACKFILL, "--fraction", "1", "--json", cwd=job.folder)

    def tighten(number: int) -> None:
        if number == 1:
            status = Path(f"/proc/{running.pid}/status").read_text()
            used = int(status.partition("VmSize:")[2].split()[0]) * 1024
            _, hard = resource.prlimit(running.pid, resource.RLIMIT_AS)
            resource.prlimit(running.pid, resource.RLIMIT_AS, (used + LARGE * 3 // 4, hard))

    job.service.on_request = tighten
    out, err = running.communicate(timeout=120)
    assert running.returncode == 1, err
    assert json.loads(out)["error"]["type"] == "ExhaustedError"
    assert "Traceback" not in err
    assert job.findings() == set()
    assert job.run("status")["phase"] == "paused"
    job.service.on_request = lambda _: None
    job.client.set_payload(job.name, {"text": job.texts.texts[-1]}, points=[COUNT], wait=True)
    job.run(*BACKFILL, "--fraction", "1")
    job.check()


def test_the_clock_is_put_back(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def put_back(days: int) -> None:
        monkeypatch.setattr(phases, "_now", lambda: datetime.now(UTC) - timedelta(days=days))

    job.ready()
    put_back(2)
    job.run(*BACKFILL, "--fraction", "0.5")
    put_back(400)
    job.run(*BACKFILL, "--fraction", "1")
    job.check()
    put_back(0)
    assert job.run("verify")["clean"]
    assert verified_gate(job)["passed"]
    put_back(3)
    gate = verified_gate(job)
    assert (gate["passed"], "is in the future" in gate["detail"]) == (False, True)
    assert job.run("verify")["clean"]
    assert verified_gate(job)["passed"]


def verified_gate(job: Job) -> dict:
    _, out, _ = inside("cutover", "--json", cwd=job.folder)
    return next(each for each in json.loads(out)["gates"] if each["name"] == "verified")


def test_a_plan_that_is_killed_leaves_no_order_beside_it(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.ready()
    order = job.artefacts / "order.parquet"
    order.write_bytes(b"of the plan before")

    def killed(self: Artefacts, plan: Plan) -> None:
        raise KeyboardInterrupt

    config = load_config(job.folder / "xbtmigrate.toml")
    monkeypatch.setattr(Artefacts, "save_plan", killed)
    with pytest.raises(KeyboardInterrupt):
        make_plan(config, out=None, allow_model_mismatch=False, report=lambda *_: None)
    assert not order.exists()


def test_the_folder_of_artefacts_is_lost(job: Job) -> None:
    job.ready()
    job.run(*BACKFILL, "--fraction", "0.5")
    shutil.rmtree(job.artefacts)
    for command in ((*BACKFILL, "--fraction", "1"), ("verify",), ("abort",)):
        refused = job.run(*command, expect=1)
        assert refused["error"]["type"] == "ArtefactError"
        assert "`xbtmigrate doctor --yes`" in refused["error"]["hint"]
    assert job.run("plan", expect=3)["error"]["type"] == "GateError"
    [lost] = [each for each in job.run("doctor", expect=3)["findings"] if "lost" in each["name"]]
    assert (lost["name"], lost["fixable"]) == ("artefacts_lost", True)
    inside("doctor", "--yes", cwd=job.folder)
    job.run(*BACKFILL, "--fraction", "1")
    job.check()
    assert job.run("verify")["clean"]


@pytest.mark.parametrize(
    ("lost", "name"),
    [("projector", "projector_lost"), ("order.parquet", ""), ("encoded", ""), ("serving", "")],
)
def test_a_part_of_the_artefacts_is_lost(job: Job, lost: str, name: str) -> None:
    job.ready()
    job.run(*BACKFILL, "--fraction", "0.5")
    path = job.artefacts / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    assert job.findings() == ({name} if name else set())
    if name:
        refused = job.run(*BACKFILL, "--fraction", "1", expect=1)
        assert "doctor --yes" in refused["error"]["hint"]
        inside("doctor", "--yes", cwd=job.folder)
    job.run(*BACKFILL, "--fraction", "1")
    job.check()
