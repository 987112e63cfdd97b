"""A backfill on workers of Ray does what the built-in engine does, and each goes on after both."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.support.command import answer

pytestmark = [pytest.mark.long, pytest.mark.server, pytest.mark.xdist_group("ray")]
COUNTED = ("status", "phase", "fraction", "planned", "projected", "encoded", "vanished")
COUNTED += ("missing_source", "failed", "still_changing", "gallery", "quarantined")


@pytest.mark.parametrize("layout", ["in_place", "shadow"])
def test_the_counts_are_those_of_the_built_in_engine(layout: str, job):
    ours, theirs = job(layout, "ours"), job(layout, "theirs")
    # One without content, one that the service refuses.
    for each in (ours, theirs):
        each.client.set_payload(each.name, {"text": None}, points=[7], wait=True)
    ours.service.refused.add(ours.texts.texts[11])
    alone = theirs.run(engine="local")
    shared = ours.run("--actors", "3")
    assert {key: shared[key] for key in COUNTED} == {key: alone[key] for key in COUNTED}
    assert shared["gallery"]["without_new"] == 0
    assert {step for step, spent in shared["steps"].items() if spent} >= {"read", "encode", "write"}
    again = ours.run()
    assert (again["status"], again["projected"], again["encoded"]) == ("already complete", 0, 0)


def test_each_engine_goes_on_where_the_other_was_interrupted(job):
    job = job("in_place")
    job.service.on_request = lambda _: time.sleep(0.3)
    running = job.start()
    while len(job.service.charged) < 50:
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=120)
    assert running.returncode == 130, err
    stopped = json.loads(out)
    assert (stopped["phase"], stopped["status"]) == ("paused", "stopped: interrupted")
    assert 0 < stopped["encoded"] < 300
    job.service.on_request = lambda _: None
    job.run("--budget", "1s", engine="local")
    done = job.run()
    assert done["phase"] == "backfilled"
    assert job.repeated == 0
    job.check()


def test_a_pause_holds_every_worker_and_the_rate_is_that_of_all(job):
    job = job("shadow")
    running = job.start("--max-rate", "12", "--actors", "3")
    while stored(job) < 10:
        assert running.poll() is None
        time.sleep(0.05)
    first, begun = stored(job), time.monotonic()
    assert steer(job, "pause")["paused"]
    written = stored(job)
    # Three workers of which each kept the rate by itself would have written three times as many.
    assert written - first <= 12 * (time.monotonic() - begun + 2)
    time.sleep(1.5)
    assert stored(job) == written
    steer(job, "throttle", "--max-rate", "off")
    steer(job, "resume")
    out, err = running.communicate(timeout=240)
    assert running.returncode == 0, err
    assert json.loads(out)["steps"]["wait"] > 1.5
    job.check()


def steer(job, *command: str) -> dict:
    return answer(*command, cwd=job.folder)


def stored(job) -> int:
    """Points that are in the shadow by now."""
    name = f"{job.name}__xbtmigrate"
    return job.client.count(name).count if job.client.collection_exists(name) else 0
