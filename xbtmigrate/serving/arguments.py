"""Name and convert the arguments of the Qdrant client's methods."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from inspect import signature
from itertools import islice, repeat
from typing import Any
from uuid import uuid4

import numpy as np
from qdrant_client import QdrantClient, models

# From the client's own signatures, so that a new release cannot shift positional arguments. The
# methods of `client.py` name the first ones themselves.
UPSERT = tuple(signature(QdrantClient.upsert).parameters)[3:]
UPDATE = tuple(signature(QdrantClient.update_vectors).parameters)[3:]
DELETE = tuple(signature(QdrantClient.delete).parameters)[3:]
BATCH = tuple(signature(QdrantClient.batch_update_points).parameters)[3:]
QUERIES = tuple(signature(QdrantClient.query_batch_points).parameters)[3:]
_UPLOAD = tuple(signature(QdrantClient.upload_points).parameters)[3:]
GROUPS = tuple(signature(QdrantClient.query_points_groups).parameters)[3:]
_UPLOADED = ("wait", "shard_key_selector", "update_filter", "update_mode")
_QUERY = list(signature(QdrantClient.query_points).parameters)[2:]
_FIELDS = {
    "query_filter": "filter",
    "search_params": "params",
    "with_vectors": "with_vector",
    "shard_key_selector": "shard_key",
}
_OF_THE_CALL = ("consistency", "timeout")


def make_request(
    arguments: Sequence[Any], named: Mapping[str, Any]
) -> tuple[models.QueryRequest, dict[str, Any]]:
    """Turn the arguments of `query_points` into a request and its options."""
    given = {**dict(zip(_QUERY, arguments, strict=False)), **named}
    options = {key: given.pop(key) for key in _OF_THE_CALL if given.get(key) is not None}
    values = {_FIELDS.get(key, key): value for key, value in given.items() if value is not None}
    if isinstance(values.get("query"), np.ndarray):
        values["query"] = values["query"].tolist()
    # The default of `query_points`; a request without it returns no payload.
    values.setdefault("with_payload", True)
    return models.QueryRequest(**values), options


def name_options(
    names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Name the positional arguments, and leave out those that are None."""
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    return {name: value for name, value in given.items() if value is not None}


def name_upload_options(
    args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[int, dict[str, Any]]:
    """Return the batch size of an upload, and the options of each batch that is written."""
    given = {"wait": False, **name_options(_UPLOAD, args, kwargs)}
    options = {name: given[name] for name in _UPLOADED if name in given}
    return int(given.get("batch_size", 64)), options


def split_batches(points: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield points in lists of at most `size`."""
    rest = iter(points)
    while part := list(islice(rest, size)):
        yield part


def points_from_columns(vectors: Any, payload: Any, ids: Any) -> Iterator[models.PointStruct]:
    """Turn the columns of `upload_collection` into points."""
    each_id = iter(ids) if ids is not None else iter(lambda: str(uuid4()), None)
    payloads = iter(payload) if payload is not None else repeat(None)
    if isinstance(vectors, Mapping):
        names = list(vectors)
        columns = zip(*(vectors[name] for name in names), strict=True)
        rows: Iterable[Any] = (dict(zip(names, map(_plain, row), strict=True)) for row in columns)
    else:
        rows = map(_plain, vectors)
    # Not strict: generated ids and absent payloads never end, so the vectors do.
    for vector, point_id, content in zip(rows, each_id, payloads, strict=False):
        yield models.PointStruct(id=point_id, vector=vector, payload=content)


def _plain(vector: Any) -> Any:
    if isinstance(vector, Mapping):
        return {name: _plain(each) for name, each in vector.items()}
    # `PointStruct` takes lists only, while `upload_collection` takes arrays too.
    return vector.tolist() if isinstance(vector, np.ndarray) else vector
