"""Vectors that a server stores in fewer bits are recognised as what was written."""

from __future__ import annotations

import numpy as np
import pytest
from qdrant_client import models

from tests.support.collections import TEXT, fresh_name
from tests.unit.qdrant.test_qdrant_provenance import MOVED, moved
from xbtmigrate.qdrant.collection.facts import inspect
from xbtmigrate.qdrant.gallery.create import prepare
from xbtmigrate.qdrant.gallery.layout import NewSpace, choose_layout
from xbtmigrate.qdrant.gallery.open_gallery import open_fidelity, open_gallery
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.testing.galleries import table_of
from xbtmigrate.types import Distance, Kind, Layout, content_hash, make_batch, vector_array

pytestmark = pytest.mark.server

COUNT = 1500
SIZE = 64
HARD = [moved(*place)[0] for place in MOVED if place[0] == SIZE]


def rows(seed: int) -> np.ndarray:
    """Random vectors, ending with those that half precision moves farthest."""
    drawn = np.random.default_rng(seed).standard_normal((COUNT, SIZE), dtype=np.float32)
    drawn[-len(HARD) :] = HARD
    return drawn


def create(connection: Connection, datatype: str, distance: Distance) -> str:
    name = fresh_name()
    params = models.VectorParams(
        size=SIZE,
        distance=models.Distance(distance.value),
        datatype=models.Datatype(datatype),
    )
    half = params.model_copy(update={"datatype": models.Datatype.FLOAT16})
    config = {"old": params, "other": params, "new": half}
    connection.client.create_collection(name, vectors_config=config)
    scale = 40 if datatype == "uint8" else 1
    old, other = (np.abs(scale * rows(seed)) for seed in (1, 2))
    connection.client.upload_points(
        name,
        [
            models.PointStruct(
                id=row,
                vector={"old": old[row].tolist(), "other": other[row].tolist()},
                payload={"text": f"text {row}"},
            )
            for row in range(COUNT)
        ],
        wait=True,
    )
    return name


@pytest.mark.parametrize("datatype", ["float16", "uint8"])
@pytest.mark.parametrize("distance", [Distance.COSINE, Distance.DOT])
@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("db", ["server_db", "grpc_db"])
def test_every_point_counts_as_done(  # noqa: PLR0917 - one for each axis
    db: str,
    datatype: str,
    distance: Distance,
    layout: Layout,
    kind: Kind,
    request: pytest.FixtureRequest,
) -> None:
    connection: Connection = request.getfixturevalue(db)
    name = create(connection, datatype, distance)
    facts = inspect(connection, name, "old")
    space = NewSpace("new", SIZE, distance)
    choice = choose_layout(facts, connection, layout, space, resuming=True)
    prepare(connection, facts, choice)
    gallery = open_gallery(connection, facts, choice, TEXT, "plan-a")
    old = table_of(gallery.read({"old"})).combine_chunks()["old"].combine_chunks()
    ids = [str(row) for row in range(COUNT)]
    hashes = [content_hash(f"text {row}") for row in range(COUNT)]
    new = vector_array(rows(3))
    gallery.write(make_batch(ids, content_hash=hashes, old=old, new=new), kind)
    assert table_of(gallery.read({"kind"}))["kind"].to_pylist() == [kind] * COUNT
    fidelity = open_fidelity(connection, facts, choice)
    if fidelity is not None:
        parts = (ids[start : start + 500] for start in range(0, COUNT, 500))
        assert [fidelity.differences(part) for part in parts] == [{}] * 3
