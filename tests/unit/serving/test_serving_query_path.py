"""One query stays short: what depends on the state alone is not worked out again for each query."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

import xbtmigrate
from xbtmigrate.migration.phases import Phase
from xbtmigrate.scoring.calibration import Bank, Calibration
from xbtmigrate.scoring.fusion import Fusion, Weights
from xbtmigrate.serving import MigrationSearcher
from xbtmigrate.serving.engine import Core
from xbtmigrate.serving.space import ServingSpace
from xbtmigrate.serving.state import ServingState
from xbtmigrate.types import Channel, Distance, Layout

PACKAGE = str(Path(xbtmigrate.__file__).parent)
FOUND = [models.ScoredPoint(id=row, version=0, score=1 - row / 10, payload={}) for row in range(3)]


class Client:
    """A client that keeps the requests it is given and finds three points."""

    def __init__(self) -> None:
        self.requests: list[models.QueryRequest] = []

    def query_batch_points(self, collection: str, requests: list[models.QueryRequest]) -> list[Any]:
        assert collection == "c"
        self.requests += requests
        return [SimpleNamespace(points=list(FOUND)) for _ in requests]


def searcher(client: Any, serving: str) -> MigrationSearcher:
    """A searcher after a backfill, whose server fuses."""
    bank = Bank(["1", "2"], *(np.eye(2, size, dtype=np.float32) for size in (4, 6, 4)))
    fusion = Fusion(
        {Channel.OLD: Weights(1.0), Channel.FORWARD: Weights(0.5)},
        {Channel.NEW: Weights(2.0)},
        0.5,
        40,
        1.0,
    )
    anything: Any = SimpleNamespace(digest="0" * 64)
    state = ServingState(
        migration="c-old",
        names=frozenset({"c"}),
        phase=Phase.BACKFILLED,
        plan=anything,
        layout=Layout.IN_PLACE,
        old=ServingSpace("c", "old", 4, Distance.COSINE),
        new=ServingSpace("c", "new", 6, Distance.COSINE),
        switched=False,
        covered=True,
        waiting=False,
        asked=serving,
        bridge=None,
        forward=None,
        calibration=Calibration(fusion, fusion, 0.3, bank, ("b", "f"), np.inf),
        hubness=None,
        away=np.full(6, 0.3, np.float32) if serving == "single" else None,
        one_request=True,
    )
    loader: Any = None
    return MigrationSearcher(client, Core(loader, state, (None, None), 1e6, None))


@pytest.mark.parametrize("serving", ["single", "calibrated"])
def test_a_query_crosses_few_files_and_functions(serving: str) -> None:
    client = Client()
    opened = searcher(client, serving)
    query: dict[str, Any] = {"vector": [0.5] * 6, "old_vector": [0.5] * 4}
    assert opened.search(**query).serving == serving  # the first query of a state prepares it
    crossed: set[tuple[str, str]] = set()

    def record(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE):
            crossed.add((code.co_filename, code.co_qualname))

    sys.setprofile(record)
    try:
        opened.search(**query)
    finally:
        sys.setprofile(None)
    assert len({file for file, _ in crossed}) <= 5
    assert len(crossed) <= 25
    assert client.requests[0] == client.requests[1]


def test_another_state_has_its_own_formula() -> None:
    client = Client()
    opened = searcher(client, "calibrated")
    query: dict[str, Any] = {"vector": [0.5] * 6, "old_vector": [0.5] * 4}
    opened.search(**query)
    opened.core.state = replace(opened.core.state, waiting=True)
    opened.search(**query)
    first, second = (request.query for request in client.requests)
    assert first != second
