"""Search a collection, and measure the recall of its index against exact search. Reads only."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import orjson
from numpy import typing as npt
from qdrant_client import models

from xbtmigrate.qdrant.collection.facts import CollectionFacts
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.types import PointId, Vectors

DEPTH = 10
# The least search_max_batchsize that `plan` accepts (gallery/limits.py).
_BATCH = 20
_NEAREST_BATCH = 100


def measure_index_recall(
    connection: Connection,
    collection: str,
    vector: str,
    queries: Vectors,
    *,
    own: Sequence[PointId] | None = None,
    hnsw_ef: int | None = None,
) -> npt.NDArray[np.float64]:
    """Return the share of its ten exact neighbours that an indexed search of each query finds.

    Args:
        connection: The open Qdrant.
        collection: Collection to search.
        vector: Name of the vector, "" for the unnamed one.
        queries: Query vectors, float32 (n, d), n > 0.
        own: Points that the queries are the vectors of; left out of both lists.
        hnsw_ef: What the application searches with; None for the server's default.

    Returns:
        Shares from 0 to 1, (n,).
    """
    shares = []
    for start in range(0, len(queries), _BATCH):
        part = queries[start : start + _BATCH]
        place = (connection, collection, vector)
        # One more than needed, because a stored query finds itself first.
        exact = search(*place, part, depth=DEPTH + 1, params=models.SearchParams(exact=True))
        indexed = search(*place, part, depth=DEPTH + 1, params=models.SearchParams(hnsw_ef=hnsw_ef))
        for row, (wanted, found) in enumerate(zip(exact, indexed, strict=True)):
            skipped = {own[start + row]} if own is not None else set()
            nearest = [each for each in wanted if each not in skipped][:DEPTH]
            near = {each for each in found if each not in skipped}
            # Order does not count: only whether the index returned each exact neighbour.
            shares.append(sum(each in near for each in nearest) / max(len(nearest), 1))
    return np.array(shares)


def search(
    connection: Connection,
    collection: str,
    vector: str,
    queries: Vectors,
    *,
    depth: int,
    params: models.SearchParams | None = None,
) -> list[list[PointId]]:
    """Search as an application does; returns the ids of each query's `depth` nearest points.

    A stored vector that holds NaN gets a NaN score, which servers rank first and show over REST as
    null; such points are left out.
    """
    requests = [
        models.QueryRequest(query=row.tolist(), using=vector or None, limit=depth, params=params)
        for row in queries
    ]
    # The client library cannot parse a score of null, so REST answers are parsed here.
    rest = connection.rest
    if rest is None:
        answers = connection.call(
            lambda: connection.client.query_batch_points(collection, requests)
        )
        return [
            [str(point.id) for point in answer.points if math.isfinite(point.score)]
            for answer in answers
        ]
    body = {"searches": [each.model_dump(exclude_none=True) for each in requests]}
    found = connection.call(
        lambda: orjson.loads(rest.send("POST", collection, "points/query/batch", body))
    )
    return [
        [str(point["id"]) for point in answer["points"] if point["score"] is not None]
        for answer in found["result"]
    ]


def find_nearest(
    connection: Connection, facts: CollectionFacts, vectors: Vectors, count: int
) -> list[list[PointId]]:
    """Return the nearest points of queries in the old space.

    Args:
        connection: The open Qdrant.
        facts: The collection.
        vectors: Queries in the old space, (n, d_old).
        count: Points wanted for each.

    Returns:
        One list of ids for each query, best first.
    """
    found: list[list[PointId]] = []
    for start in range(0, len(vectors), _NEAREST_BATCH):
        part = vectors[start : start + _NEAREST_BATCH]
        found += search(connection, facts.collection, facts.vector, part, depth=count)
    return found
