"""Comparisons after an answer end, whatever happens to them, and none takes another with it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from xbtmigrate.errors import EncoderError
from xbtmigrate.serving.engine import Answer, Question
from xbtmigrate.serving.http.canary import SplitSearcher, TrafficSplit
from xbtmigrate.serving.http.service_metrics import Metrics

FAILURES = "xbtmigrate_trial_failures_total"
AGREED = "xbtmigrate_trial_agreement_count"


class Side:
    """A searcher that does with its n-th query what it is told to."""

    def __init__(self, *does: Any) -> None:
        self.does = list(does)
        self.ended: list[str] = []

    async def search_batch(self, questions: Sequence[Question]) -> list[Answer]:
        does = self.does.pop(0) if self.does else 0.0
        if isinstance(does, Exception):
            raise does
        try:
            await asyncio.sleep(does)
        finally:
            self.ended.append(questions[0].text or "")
        return [Answer([], "single")]


def count(metrics: Metrics, name: str) -> float:
    lines = metrics.render("none", problem=False).decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name} "))


def settled(new: Side, *, seconds: float) -> Metrics:
    """Metrics after three queries whose comparisons had that long."""
    metrics, split = Metrics(), TrafficSplit("shadow-read", 1.0)
    searcher: Any = SplitSearcher(new, Side(), split, metrics, seconds)  # type: ignore[arg-type]

    async def run() -> None:
        for text in "abc":
            await searcher.answer(Question(text=text))
        await searcher.settle()

    asyncio.run(run())
    return metrics


@pytest.mark.parametrize(
    "error", [EncoderError("away", "wait"), RuntimeError("a fault of the program"), ValueError()]
)
def test_one_that_fails_is_counted_and_the_others_are_waited_for(error, caplog):
    new = Side(error, 0.05, 0.05)
    metrics = settled(new, seconds=30.0)
    assert new.ended == ["b", "c"]
    assert (count(metrics, FAILURES), count(metrics, AGREED)) == (1, 0)
    assert (str(error) or type(error).__name__) in caplog.text


def test_one_that_hangs_is_given_up():
    new = Side(3600.0)
    metrics = settled(new, seconds=0.05)
    assert sorted(new.ended) == ["a", "b", "c"]
    assert count(metrics, FAILURES) == 1
