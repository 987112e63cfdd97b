"""Titles are sampled in bounded memory, each with all its points."""

from __future__ import annotations

import random

from xbtmigrate.types import make_batch
from xbtmigrate.workflows.plan.make_queries import MOST_ANSWERS, TitleSample

COUNT = 20


def sampled(points: dict[str, str | None], page: int = 50, seed: int = 0) -> TitleSample:
    sample, ids = TitleSample(COUNT, seed), list(points)
    for start in range(0, len(ids), page):
        part = ids[start : start + page]
        sample.add(make_batch(part, text=[points[each] for each in part]))
        assert len(sample._points) <= 4 * COUNT + page
    return sample


def test_a_sampled_title_has_all_its_points_wherever_they_stand():
    pairs = [(f"{title}-{copy}", f"title  {title}") for title in range(900) for copy in range(3)]
    random.Random(0).shuffle(pairs)
    taken = sampled(dict(pairs)).take()
    assert len(taken) == COUNT
    for title, points in taken.items():
        number = title.removeprefix("title ")
        assert sorted(points) == [f"{number}-{copy}" for copy in range(3)]
    # The order of the points does not matter, the seed does.
    assert sampled(dict(sorted(pairs)), page=7).take().keys() == taken.keys()
    assert sampled(dict(pairs), seed=1).take().keys() != taken.keys()


def test_titles_of_many_points_and_empty_ones_are_left_out():
    points: dict[str, str | None] = {f"i{n}": "Introduction" for n in range(MOST_ANSWERS + 1)}
    points |= {f"o{n}": "Overview" for n in range(MOST_ANSWERS)} | {"e": " ", "n": None}
    assert sampled(points).take() == {"Overview": [f"o{n}" for n in range(MOST_ANSWERS)]}
