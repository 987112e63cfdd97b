"""What is missing is one clear error before anything is written."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from qdrant_client import models

from tests.support.command import answer, inside

pytestmark = [pytest.mark.long, pytest.mark.server, pytest.mark.xdist_group("ray")]
RAY = ("backfill", "--online", "--engine", "ray")


def refused(folder: Path, *more: str, code: int) -> str:
    """Run a backfill that has to be refused; returns what it says."""
    error = answer(*RAY, *more, cwd=folder, expect=code)["error"]
    assert error["hint"]
    return error["message"]


@pytest.fixture
def untouched(job):
    """A migration of which nothing is written, before and after."""
    made = job("in_place")
    yield made
    has = models.Filter(must=[models.HasVectorCondition(has_vector="new")])
    assert made.client.count(made.name, count_filter=has).count == 0
    assert answer("status", cwd=made.folder)["phase"] == "trained"


def test_no_cluster_answers(untouched):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert f"no Ray cluster answers at {address}" in refused(
            untouched.folder, "--address", address, code=1
        )
    assert "is not HOST:PORT" in refused(untouched.folder, "--address", "here", code=2)


def test_the_cluster_is_too_small(untouched, cluster):
    where = ("--address", cluster.address)
    found = refused(untouched.folder, *where, "--actors", "50", code=2)
    assert "50 actors need 50 CPUs, and the Ray cluster has 4" in found
    found = refused(untouched.folder, *where, "--gpus-per-actor", "0.5", code=2)
    assert "2 actors need 1 GPUs, and the Ray cluster has 0" in found


def test_a_worker_has_no_key(monkeypatch, untouched, cluster):
    config = untouched.folder / "xbtmigrate.toml"
    config.write_text(config.read_text().replace('api_key_env = ""', 'api_key_env = "KEY_HERE"'))
    monkeypatch.setenv("KEY_HERE", "secret")
    answer("plan", cwd=untouched.folder)
    answer("train-projector", "--kind", "ridge", "--pairs", "100", cwd=untouched.folder)
    found = refused(untouched.folder, "--address", cluster.address, "--fraction", "0.5", code=2)
    assert "on the worker at " in found
    assert "KEY_HERE" in found
    assert "secret" not in found


def test_an_encoder_is_missing_on_a_worker(monkeypatch, untouched, cluster, tmp_path):
    packages = tmp_path / "here"
    info = packages / "elsewhere-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[xbtmigrate.encoders]\nelsewhere = elsewhere:Model\n")
    (packages / "elsewhere.py").write_text(
        "from xbtmigrate.testing.encoders import FakeEncoder\n\n\n"
        "class Model(FakeEncoder):\n"
        "    def __init__(self) -> None:\n"
        "        super().__init__(dimension=24, seed=2)\n"
    )
    config = untouched.folder / "xbtmigrate.toml"
    head, _, tail = config.read_text().partition("[new_model]")
    config.write_text(
        f'{head}[new_model]\nencoder = "elsewhere"\n[plan]{tail.partition("[plan]")[2]}'
    )
    monkeypatch.setenv("PYTHONPATH", str(packages), prepend=":")
    answer("plan", cwd=untouched.folder)
    answer("train-projector", "--kind", "ridge", "--pairs", "100", cwd=untouched.folder)
    found = refused(untouched.folder, "--address", cluster.address, "--fraction", "0.5", code=2)
    assert "on the worker at " in found
    assert "elsewhere" in found


def test_options_of_another_engine(tmp_path, job):
    config = job("in_place").folder / "xbtmigrate.toml"
    code, out, _ = inside(
        "backfill", "--online", "--actors", "3", "--json", "--config", str(config), cwd=tmp_path
    )
    assert (code, "actors: unknown key" in out) == (2, True)
    code, out, _ = inside(
        "backfill", "--online", "--engine", "spark", "--json", "--config", str(config), cwd=tmp_path
    )
    assert (code, "no plugin 'spark'" in out) == (2, True)
