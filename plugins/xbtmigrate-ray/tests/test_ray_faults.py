"""Workers and commands are killed at random moments: nothing is lost, stale or paid for twice."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from qdrant_client import QdrantClient, models

from tests.faults.application import Application
from tests.faults.judging import Judge
from tests.faults.lanes import open_lane
from tests.support.command import answer, start
from xbtmigrate import Projector

pytestmark = [pytest.mark.long, pytest.mark.server, pytest.mark.xdist_group("ray")]
ACTORS, BATCH = 3, 25
WRITER_RUN = (
    "backfill", "--online", "--fraction", "0.4", "--batch-size", "12", "--max-slowdown", "off",
    "--max-rate", "60", "--engine", "ray", "--actors", "2",
)  # fmt: skip


def wait_for(reached: Callable[[], bool], running: subprocess.Popen[str] | None = None) -> bool:
    """Wait for a moment of a run; false if the run has ended before."""
    deadline = time.monotonic() + 240
    while not reached():
        assert time.monotonic() < deadline
        if running is not None and running.poll() is not None:
            return False
        time.sleep(0.02)
    return True


def embeds_more(job, cluster, running: subprocess.Popen[str], texts: int) -> bool:
    """Wait until the workers of a run are there, and more texts were embedded."""
    least = len(job.service.charged) + texts
    # Requests of a command killed before are counted, too, when they are answered.
    return wait_for(lambda: bool(cluster.workers()) and len(job.service.charged) >= least, running)


@pytest.mark.parametrize(("seed", "layout"), [(0, "in_place"), (1, "shadow")])
def test_at_most_a_batch_of_each_killed_worker_is_embedded_twice(
    seed: int, layout: str, job, cluster
):
    job, rng = job(layout), random.Random(seed)
    job.service.on_request = lambda _: time.sleep(1)
    kills = 0
    # The last run loses a worker alone, and ends.
    for killed in ("command", "worker and command", "worker"):
        # Those of a killed command end a moment after it.
        assert wait_for(lambda: not cluster.workers())
        lost, running = 0, job.start("--actors", str(ACTORS))
        if "worker" in killed:
            assert embeds_more(job, cluster, running, rng.randint(1, 8))
            assert cluster.kill_a_worker(rng.randrange(ACTORS))
            lost += 1
        if "command" in killed:
            assert embeds_more(job, cluster, running, rng.randint(1, 8))
            running.kill()
            lost += ACTORS
        out, err = running.communicate(timeout=300)
        assert running.returncode == (-9 if "command" in killed else 0), f"{out}\n{err}"
        assert "Traceback" not in err, err
        kills += lost
        # What a kill has lost is asked for again by the next run at the latest.
        assert job.repeated <= kills * BATCH
    assert kills > 2 * ACTORS
    done = job.run()
    assert (done["phase"], done["status"]) == ("backfilled", "already complete")
    job.check()


@pytest.mark.parametrize(("seed", "layout"), [(2, "in_place"), (3, "shadow")])
def test_an_application_writes_meanwhile(seed: int, layout: str, cluster, tmp_path: Path):
    rng = random.Random(seed)
    run = (*WRITER_RUN, "--address", cluster.address)
    with open_lane() as lane, closing(QdrantClient(url=lane.server.server.url)) as client:
        folder = tmp_path / "job"
        shutil.copytree(lane.template(layout, "fastfill"), folder)
        name = lane.reset(client, layout, "fastfill")
        lane.configure(folder, grpc=True)
        application = Application(lane.server.server.url, name)
        application.fill(client)
        application.start(seed, writers=3)
        try:
            for killed in ("worker", "command", "worker"):
                running = start(*run, cwd=folder)
                some = rng.randint(1, 60)
                there = made(client, name, layout)
                # A run that has nothing left to do ends before its moment.
                if wait_for(lambda t=there, n=some: made(client, name, layout) >= t + n, running):
                    if killed == "command":
                        running.kill()
                    else:
                        cluster.kill_a_worker(rng.randrange(2))
                out, err = running.communicate(timeout=300)
                assert running.returncode in (0, -9), f"{out}\n{err}"
        finally:
            application.end()
        done = answer(*run, cwd=folder)
        assert (done["phase"], done["still_changing"]) == ("backfilled", 0)
        forward = next((folder / ".xbtmigrate").glob("*/projector/forward"))
        judge = Judge(
            application, Projector.load(forward), shadow=layout == "shadow", all_encoded=False
        )
        judge.look(client, ())


def made(client: QdrantClient, name: str, layout: str) -> int:
    """How many points have a new vector."""
    if layout == "shadow":
        there = client.collection_exists(f"{name}__xbtmigrate")
        return client.count(f"{name}__xbtmigrate").count if there else 0
    has = models.Filter(must=[models.HasVectorCondition(has_vector="new")])
    return client.count(name, count_filter=has).count
