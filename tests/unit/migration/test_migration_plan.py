"""What a plan says of the time until it is carried out."""

from __future__ import annotations

import pytest

from xbtmigrate.migration.plan import Advice, Plan
from xbtmigrate.types import Strategy


@pytest.mark.parametrize(
    ("done", "advised", "serving"),
    [
        (Strategy.FASTFILL, Strategy.FASTFILL, "calibrated"),
        (Strategy.FORWARD, Strategy.FORWARD, "calibrated"),
        (Strategy.FASTFILL, Strategy.FULL, ""),
        (Strategy.FULL, Strategy.FULL, ""),
        (Strategy.BRIDGE, Strategy.KEEP, ""),
    ],
)
def test_a_serving_holds_for_the_strategy_it_was_recommended_for(
    done: Strategy, advised: Strategy, serving: str
) -> None:
    advice = Advice(
        strategy=advised, fraction=0.5, ordering="", serving="calibrated", reason="measured"
    )
    assert Plan.model_construct(strategy=done, recommendation=advice).serving == serving
