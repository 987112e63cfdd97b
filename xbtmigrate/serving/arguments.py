"""Room `search`: the arguments of an application's own calls, as values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from inspect import signature
from itertools import repeat
from typing import Any
from uuid import uuid4

import numpy as np
from pydantic import BaseModel
from qdrant_client import QdrantClient, models

PARAMETERS = list(signature(QdrantClient.query_points).parameters)[2:]
_FIELDS = {
    "query_filter": "filter",
    "search_params": "params",
    "with_vectors": "with_vector",
    "shard_key_selector": "shard_key",
}
_OPTIONS = ("consistency", "timeout")
_HOLDING_VECTORS = ("nearest", "target", "positive", "negative", "recommend", "discover", "context")


def plain_vector(query: Any) -> list[float] | None:
    """The vector of a plain nearest-neighbour query, None for any other query."""
    if isinstance(query, models.NearestQuery):
        return plain_vector(query.nearest) if query.mmr is None else None
    if isinstance(query, np.ndarray):
        return query.tolist() if query.ndim == 1 else None
    if isinstance(query, list | tuple) and query and isinstance(query[0], float | int):
        return [float(each) for each in query]
    return None


def turned(query: Any, turn: Callable[[list[float]], list[float]]) -> Any:
    """Replace every dense vector in a query of whatever kind; ids and the rest stay."""
    if isinstance(query, models.RecommendInput):
        sides = {name: getattr(query, name) or [] for name in ("positive", "negative")}
        return query.model_copy(
            update={name: [turned(each, turn) for each in side] for name, side in sides.items()}
        )
    if isinstance(query, BaseModel):
        parts = {name: getattr(query, name, None) for name in _HOLDING_VECTORS}
        return query.model_copy(
            update={name: turned(part, turn) for name, part in parts.items() if part is not None}
        )
    vector = plain_vector(query)
    if vector is None and isinstance(query, list):
        return [turned(each, turn) for each in query]
    return query if vector is None else turn(vector)


def request_of(
    arguments: Sequence[Any], named: Mapping[str, Any]
) -> tuple[models.QueryRequest, dict[str, Any]]:
    """Turn the arguments of `query_points` into a request and its options."""
    given = {**dict(zip(PARAMETERS, arguments, strict=False)), **named}
    options = {key: given.pop(key) for key in _OPTIONS if given.get(key) is not None}
    values = {_FIELDS.get(key, key): value for key, value in given.items() if value is not None}
    if isinstance(values.get("query"), np.ndarray):
        values["query"] = values["query"].tolist()
    values.setdefault("with_payload", True)
    return models.QueryRequest(**values), options


def rows_of(vectors: Any, payload: Any, ids: Any) -> Iterator[models.PointStruct]:
    """Turn the columns of `upload_collection` into points."""
    each_id = iter(ids) if ids is not None else iter(lambda: str(uuid4()), None)
    payloads = iter(payload) if payload is not None else repeat(None)
    if isinstance(vectors, Mapping):
        names = list(vectors)
        columns = zip(*(vectors[name] for name in names), strict=True)
        rows: Iterable[Any] = (dict(zip(names, map(_plain, row), strict=True)) for row in columns)
    else:
        rows = map(_plain, vectors)
    for vector, point_id, content in zip(rows, each_id, payloads, strict=False):
        yield models.PointStruct(id=point_id, vector=vector, payload=content)


def _plain(vector: Any) -> Any:
    if isinstance(vector, Mapping):
        return {name: _plain(each) for name, each in vector.items()}
    return vector.tolist() if isinstance(vector, np.ndarray) else vector
