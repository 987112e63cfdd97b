"""Qdrant: conversion between the client's records and the columns of a batch."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
import pyarrow as pa
from qdrant_client import models

from xbtmigrate.errors import CollectionError
from xbtmigrate.qdrant.payload import EmbeddedFields
from xbtmigrate.types import PointId, Vectors, vector_array

StoredId: TypeAlias = int | str
Record: TypeAlias = models.Record


def stored_id(point_id: PointId) -> StoredId:
    """Turn the batch's string id into Qdrant's integer or canonical UUID.

    Raises:
        CollectionError: It is neither.
    """
    if point_id.isascii() and point_id.isdecimal() and int(point_id) < 2**64:
        return int(point_id)
    try:
        return str(uuid.UUID(point_id))
    except ValueError:
        raise CollectionError(
            f"'{point_id}' is not a point id", "ids are integers from 0 to 2^64-1 or UUIDs"
        ) from None


def point_id_of(record: Record) -> PointId:
    """Return the record's id as the batch's string."""
    return str(record.id)


def vector_of(record: Record, name: str) -> Sequence[float] | None:
    """Return one dense vector of a record, None where the point has none; "" is the unnamed."""
    vectors = record.vector
    if isinstance(vectors, Mapping):
        return cast("Sequence[float] | None", vectors.get(name))
    return cast("Sequence[float] | None", vectors) if name == "" else None


def vectors_column(records: Sequence[Record | None], name: str, size: int) -> pa.Array:
    """Build a fixed_size_list column of one vector; points without it become null."""
    rows = [vector_of(record, name) if record else None for record in records]
    valid = np.array([row is not None for row in rows], dtype=np.bool_)
    matrix: Vectors = np.full((len(rows), size), np.nan, dtype=np.float32)
    if valid.any():
        matrix[valid] = np.array([row for row in rows if row is not None], dtype=np.float32)
    return vector_array(matrix, valid)


def source_columns(records: Sequence[Record], fields: EmbeddedFields) -> dict[str, pa.Array]:
    """Build the columns text, image and content_hash of some records."""
    payloads: list[dict[str, Any]] = [record.payload or {} for record in records]
    columns = {
        "text": [fields.text_of(payload) for payload in payloads],
        "image": [fields.image_of(payload) for payload in payloads],
        "content_hash": [fields.hash_of(payload) for payload in payloads],
    }
    return {name: pa.array(values, pa.string()) for name, values in columns.items()}
