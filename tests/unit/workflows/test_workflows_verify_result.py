"""What a verification makes of its figures."""

from __future__ import annotations

import pytest

from xbtmigrate.documents.verify import IndexRecallDocument
from xbtmigrate.workflows.verify.result import loses_neighbours


@pytest.mark.parametrize(
    ("old", "new", "chance", "lost"),
    [
        (0.99, 0.97, 0.01, False),
        (0.99, 0.90, 0.01, True),
        # A hundred queries of a binary quantized vector: the same index, drawn twice, differs so.
        (0.468, 0.414, 0.05, False),
        (0.468, 0.250, 0.05, True),
        (0.90, 0.99, 0.0, False),
    ],
)
def test_an_index_has_to_lose_more_than_chance(old: float, new: float, chance: float, lost: bool):
    recall: IndexRecallDocument = {
        "basis": "judged queries",
        "queries": 100,
        "old": old,
        "new": new,
        "chance": chance,
    }
    assert loses_neighbours(recall) is lost
