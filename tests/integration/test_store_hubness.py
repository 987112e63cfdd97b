"""Numbers are stored beside the marks that they were made for, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from tests.support.collections import fresh_name
from tests.support.corpus import create_collection, fill_collection
from xbtmigrate.errors import CollectionError
from xbtmigrate.qdrant.gallery import store_hubness
from xbtmigrate.qdrant.gallery.provenance import PLAN_LENGTH, PROVENANCE
from xbtmigrate.qdrant.gallery.store_hubness import store_numbers
from xbtmigrate.qdrant.wire.connect import connect
from xbtmigrate.types import Kind

pytestmark = pytest.mark.server
PLAN = "p" * 64
MARK = {"plan": PLAN[:PLAN_LENGTH], "kind": "projected"}


def test_points_replaced_or_deleted_meanwhile_get_no_number(qdrant_url: str):
    client, name = QdrantClient(url=qdrant_url, check_compatibility=False), fresh_name()
    create_collection(client, name, {"old": 2})
    payloads = [
        {PROVENANCE: MARK},
        {"text": "replaced by the application"},
        {PROVENANCE: MARK | {"kind": "encoded"}},
        {PROVENANCE: MARK | {"plan": "another"}},
        {PROVENANCE: MARK | {"hub_b": 0.25}},
    ]
    fill_collection(client, name, range(5), {"old": np.ones((5, 2))}, payloads)
    client.delete(name, models.PointIdsList(points=[0]), wait=True)
    fill_collection(client, name, [7], {"old": np.ones((1, 2))}, payloads[:1])
    ids, kinds = ["0", "1", "2", "3", "4", "7"], [Kind.PROJECTED] * 6
    numbers = ids, kinds, np.arange(6, dtype=np.float32)
    with connect(qdrant_url) as connection:
        store_numbers(connection, name, PLAN, "hub_a", numbers, shard=None)
    found = {point.id: point.payload for point in client.scroll(name, limit=9)[0]}
    assert found[2] == payloads[2]
    assert found[3] == payloads[3]
    assert found[4] == {PROVENANCE: MARK | {"hub_b": 0.25, "hub_a": 4.0}}
    assert found[7] == {PROVENANCE: MARK | {"hub_a": 5.0}}
    assert found[1].pop(PROVENANCE, {}) == {}
    assert found[1] == payloads[1]


def test_a_refusal_that_no_deleted_point_explains_is_raised(
    qdrant_url: str, monkeypatch: pytest.MonkeyPatch
):
    client, name = QdrantClient(url=qdrant_url, check_compatibility=False), fresh_name()
    create_collection(client, name, {"old": 2})
    fill_collection(client, name, [1], {"old": np.ones((1, 2))}, [{PROVENANCE: MARK}])

    def refuse(*_: object) -> None:
        raise CollectionError("refused", "")

    monkeypatch.setattr(store_hubness, "_send", refuse)
    numbers = ["1"], [Kind.PROJECTED], np.ones(1, np.float32)
    with connect(qdrant_url) as connection, pytest.raises(CollectionError, match="refused"):
        store_numbers(connection, name, PLAN, "hub_a", numbers, shard=None)
