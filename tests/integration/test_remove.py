"""Vectors and marks are removed from the points that are there."""

from __future__ import annotations

import numpy as np
import pytest
from qdrant_client import QdrantClient

from tests.support.collections import fresh_name
from tests.support.corpus import create_collection, fill_collection
from xbtmigrate.qdrant.gallery.provenance import PROVENANCE
from xbtmigrate.qdrant.gallery.remove import remove_marks, strip
from xbtmigrate.qdrant.wire.connect import connect
from xbtmigrate.qdrant.wire.points import stored_id

pytestmark = pytest.mark.server
UUID = "7f1c7ee4-6bd5-4e9f-9b3b-9a1f6f4f8c55"


def make(url: str) -> tuple[QdrantClient, str]:
    client, name = QdrantClient(url=url, check_compatibility=False), fresh_name()
    create_collection(client, name, {"old": 2, "new": 3})
    vectors = {"old": np.ones((3, 2)), "new": np.ones((3, 3))}
    payloads = [{"text": "t", PROVENANCE: {"kind": "encoded"}} for _ in range(3)]
    fill_collection(client, name, [1, 2, UUID], vectors, payloads)
    return client, name


def test_a_vector_and_the_marks_go_and_the_rest_stays(qdrant_url: str):
    client, name = make(qdrant_url)
    counts: list[int] = []
    with connect(qdrant_url) as connection:
        assert strip(connection, name, ["old"], counts.append) == 3
        # A killed run is repeated from the start.
        assert strip(connection, name, ["old"], counts.append) == 3
    assert counts == [3, 3]
    points, _ = client.scroll(name, with_vectors=True)
    assert len(points) == 3
    assert all(point.payload == {"text": "t"} for point in points)
    assert all(list(point.vector) == ["new"] for point in points)


def test_points_that_are_gone_do_not_keep_others_from_being_cleaned(qdrant_url: str):
    client, name = make(qdrant_url)
    with connect(qdrant_url) as connection:
        remove_marks(connection, name, ["1", "99", str(UUID), "100"], None)
        remove_marks(connection, name, ["99"], None)
    marked = [point.id for point in client.scroll(name)[0] if PROVENANCE in point.payload]
    assert marked == [stored_id("2")]
