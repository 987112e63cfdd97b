"""Some of the requests of a migration fail; `python -m tests.faults --answers` fails all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.answers import LAYOUTS, Failure, Journey, open_journey

pytestmark = [pytest.mark.long, pytest.mark.server, pytest.mark.xdist_group("faults")]
APART = 40
CASES = [(layout, failure) for layout in LAYOUTS for failure in Failure]


@pytest.fixture(scope="module")
def journey() -> Iterator[Journey]:
    with open_journey() as opened:
        yield opened


@pytest.mark.parametrize("case", range(len(CASES)))
def test_failed_requests_change_nothing(case: int, journey: Journey) -> None:
    layout, failure = CASES[case]
    wrong, failed = journey.play(layout, failure, 1 + case * APART // len(CASES), APART)
    assert not wrong, "\n".join(wrong)
    assert failed > 5
