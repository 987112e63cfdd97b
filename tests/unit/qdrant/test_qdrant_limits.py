"""No request holds more points than strict mode lets a minute hold: it would never be answered."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from qdrant_client import models

from xbtmigrate.qdrant.collection.facts import page_within
from xbtmigrate.qdrant.gallery.open_gallery import PAGE, open_reader

CASES: list[tuple[dict[str, int], int]] = [
    ({}, 512),
    ({"max_query_limit": 100}, 100),
    ({"read_rate_limit": 60, "max_query_limit": 100}, 60),
    ({"write_rate_limit": 30, "read_rate_limit": 60}, 30),
    ({"write_rate_limit": 30_000}, 512),
]


@pytest.mark.parametrize(("limits", "page"), CASES)
def test_a_page_is_within_the_limits(limits: dict[str, int], page: int):
    strict = models.StrictModeConfig(enabled=True, **limits)
    info = SimpleNamespace(config=SimpleNamespace(strict_mode_config=strict))
    client = SimpleNamespace(get_collection=lambda _: info)
    connection: Any = SimpleNamespace(client=client, call=lambda request: request())
    assert page_within(connection, "c", 512) == page


@pytest.mark.parametrize(
    ("read_limit", "writes", "page"), [(None, None, PAGE), (100, 9_000, 100), (100, 45, 45)]
)
def test_what_is_read_in_a_page_can_be_written_in_one(
    read_limit: int | None, writes: int | None, page: int
):
    facts: Any = SimpleNamespace(read_limit=read_limit, writes_per_minute=writes)
    connection: Any = SimpleNamespace(embedded=False)
    assert open_reader(connection, facts, "c").page == page
