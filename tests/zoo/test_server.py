"""The fixed specimens on a real server, read over REST and gRPC, and under custom sharding."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.qdrant_server import Server
from tests.zoo.keeper import Keeper, open_keeper
from tests.zoo.rows import REFUSED, fixed
from tests.zoo.specimen import Specimen

pytestmark = [pytest.mark.long, pytest.mark.server]
ROWS = fixed(embedded=False)


@pytest.fixture(scope="module")
def keeper(qdrant_server: Server) -> Iterator[Keeper]:
    with open_keeper(qdrant_server) as opened:
        yield opened


@pytest.mark.parametrize(("name", "specimen"), ROWS, ids=[name for name, _ in ROWS])
def test_nothing_is_lost_and_it_ends(name: str, specimen: Specimen, keeper: Keeper) -> None:
    led = keeper.lead(specimen)
    print(specimen, *led.log, *led.refusals, sep="\n")
    assert led.broken == ""
    assert led.ended.startswith("refused: ") == (name in REFUSED), led.ended
