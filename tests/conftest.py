"""Fixtures every test can ask for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.collections import embedded
from tests.support.qdrant_server import Server, running_server
from xbtmigrate.qdrant.wire.connect import connect
from xbtmigrate.qdrant.wire.connection import Connection

# The same examples in every run, so that a failure is always of the change at hand;
# HYPOTHESIS_PROFILE=search looks for new ones.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run write what `tests/e2e/test_screens.py` compares with."""
    parser.addoption("--update-screens", action="store_true", help="store the screens anew")


@pytest.fixture(scope="session")
def qdrant_server() -> Iterator[Server]:
    """A real server; each test process has its own, so names never collide between processes."""
    running = os.environ.get("QDRANT_URL")
    if running:
        yield Server(running, int(os.environ.get("QDRANT_GRPC_PORT", "6334")))
        return
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def qdrant_url(qdrant_server: Server) -> str:
    """Address of the real server."""
    return qdrant_server.url


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder of the corpora and models beside the checkout; skips where there is none."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("XBTMIGRATE_SHARED", default))
    if not folder.is_dir():
        pytest.skip(f"no corpora at {folder}; set XBTMIGRATE_SHARED")
    return folder


@pytest.fixture
def embedded_db(tmp_path: Path) -> Iterator[Connection]:
    """An empty embedded database."""
    with embedded(tmp_path / "qdrant") as connection:
        yield connection


@pytest.fixture(scope="session")
def server_db(qdrant_server: Server) -> Iterator[Connection]:
    """The real server over REST."""
    with connect(qdrant_server.url) as connection:
        yield connection


@pytest.fixture(scope="session")
def grpc_db(qdrant_server: Server) -> Iterator[Connection]:
    """The real server over gRPC."""
    port = qdrant_server.grpc_port
    with connect(qdrant_server.url, prefer_grpc=True, grpc_port=port) as connection:
        yield connection
