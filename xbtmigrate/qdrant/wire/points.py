"""Points as they are read and written: ids, payloads with the embedded fields, numpy vectors."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from qdrant_client import models

from xbtmigrate.errors import CollectionError, ConfigError
from xbtmigrate.qdrant.wire.payload_field import Payload, parse_field
from xbtmigrate.types import (
    Modality,
    PointId,
    Vectors,
    content_hash,
    is_unicode,
    usable,
    vector_array,
)

StoredId: TypeAlias = int | str


@dataclass(frozen=True, slots=True)
class EmbeddedFields:
    """Where the embedded text and the image are in a payload.

    Attributes:
        text: Dotted path ("meta.title"), or a template of them ("{title}. {keywords}"); see
            `payload_field`.
        image: Dotted path of the image reference.
        stored: Which of the two the stored vectors embed.
    """

    text: str | None
    image: str | None
    stored: Modality

    def __post_init__(self) -> None:
        if self._stored_field() is None:
            raise ConfigError(
                f"the stored vectors embed the {self.stored}, but payload.{self.stored} is not set",
                f"set payload.{self.stored}, or correct old_model.stored",
            )
        for field in (self.text, self.image):
            parsed = None if field is None else parse_field(field)
            if field is not None and parsed is None:
                raise ConfigError(
                    f"'{field}' is neither a dotted path nor a template of dotted paths",
                    'write "description", "meta.title" or "{title}. {keywords}"; a key with dots, '
                    "braces or colons stands in quotes",
                )
            # Qdrant's own quoted keys have no escapes.
            for root in {path[0] for path in parsed.paths} if parsed else ():
                if not root or '"' in root:
                    raise ConfigError(
                        f"'{field}' starts at the payload key {root!r}, which Qdrant cannot select",
                        "copy the text to a key that is not empty and has no quotation mark",
                    )

    def text_of(self, payload: Payload) -> str | None:
        """Render the embedded text; None where every field of it is missing or empty."""
        return _render(self.text, payload)

    def image_of(self, payload: Payload) -> str | None:
        """Return the image reference, None where it is missing."""
        return _render(self.image, payload)

    def content_of(self, payload: Payload) -> str | None:
        """Render the field that the stored vectors embed."""
        return self.text_of(payload) if self.stored is Modality.TEXT else self.image_of(payload)

    def hash_of(self, payload: Payload) -> str:
        """Hash the field that the stored vectors embed; "" where it is missing."""
        return content_hash(self.content_of(payload))

    def keys(self) -> list[str]:
        """Return the payload's top-level keys that the fields lie under, quoted for Qdrant."""
        parsed = [parse_field(field) for field in (self.text, self.image) if field is not None]
        roots = [path[0] for field in parsed if field is not None for path in field.paths]
        return [f'"{root}"' for root in dict.fromkeys(roots)]

    def _stored_field(self) -> str | None:
        return self.text if self.stored is Modality.TEXT else self.image


def _render(field: str | None, payload: Payload) -> str | None:
    parsed = None if field is None else parse_field(field)
    return None if parsed is None else parsed.render(payload)


@dataclass(frozen=True, slots=True)
class Sparse:
    """A sparse vector: uint32 indices and float32 values, both of shape (k,)."""

    indices: npt.NDArray[np.uint32]
    values: Vectors


Vector: TypeAlias = Vectors | Sparse
"""A dense vector (d,), a multivector (k, d), or a sparse one."""


@dataclass(frozen=True, slots=True)
class NewPoint:
    """A whole point to store; the name of an unnamed vector is ""."""

    id: PointId
    payload: Mapping[str, Any]
    vectors: Mapping[str, Vector]


@dataclass(frozen=True, slots=True)
class Page:
    """Some points, in columns of n rows.

    Attributes:
        ids: Point ids.
        payloads: Payloads, with the keys that were requested.
        shard_keys: Shard keys, None under automatic sharding.
        vectors: The vectors that were requested, by name; "" is the unnamed one. Those that hold
            NaN or infinity, which servers take over gRPC, are left out as if they were not there.
    """

    ids: list[PointId]
    payloads: list[dict[str, Any]]
    shard_keys: list[models.ShardKey | None]
    vectors: list[dict[str, Vector]]

    def __len__(self) -> int:
        """Number of points."""
        return len(self.ids)

    def rows(self, rows: Sequence[int]) -> Page:
        """Return a page of these rows, in this order."""
        return Page(
            [self.ids[row] for row in rows],
            [self.payloads[row] for row in rows],
            [self.shard_keys[row] for row in rows],
            [self.vectors[row] for row in rows],
        )

    def having(self, ids: Collection[PointId]) -> Page:
        """Return a page of the points with these ids, in the order of this page."""
        wanted = set(ids)
        return self.rows([row for row, each in enumerate(self.ids) if each in wanted])

    def dense(self, name: str, size: int) -> pa.Array:
        """Build a fixed_size_list column of one vector; null where there is no usable one."""
        matrix = self.matrix(name, size)
        valid = usable(matrix)
        # numpy views the column without its validity: values under a null must not look like a
        # vector.
        matrix[~valid] = np.nan
        return vector_array(matrix, valid)

    def matrix(self, name: str, size: int) -> Vectors:
        """Return one dense vector of the points as rows, (n, size); NaN where it is missing."""
        matrix: Vectors = np.full((len(self), size), np.nan, dtype=np.float32)
        for row, vectors in enumerate(self.vectors):
            if isinstance(each := vectors.get(name), np.ndarray):
                matrix[row] = each
        return matrix

    def source_columns(self, fields: EmbeddedFields) -> dict[str, pa.Array]:
        """Build the columns text, image and content_hash.

        Text that is not Unicode has a hash, but is not embedded.
        """
        columns: dict[str, list[str | None]] = {
            "text": [fields.text_of(payload) for payload in self.payloads],
            "image": [fields.image_of(payload) for payload in self.payloads],
        }
        columns["content_hash"] = [content_hash(each) for each in columns[fields.stored.value]]
        return {name: _strings(values) for name, values in columns.items()}


def _strings(values: Sequence[str | None]) -> pa.Array:
    """Build a column of texts; those that are not Unicode become null."""
    try:
        return pa.array(values, pa.string())
    # JSON can escape half a surrogate pair, which a UTF-8 column cannot hold.
    except UnicodeEncodeError:
        readable = [each if each is None or is_unicode(each) else None for each in values]
        return pa.array(readable, pa.string())


Unread: TypeAlias = Callable[[], Page]
"""Parses the points of a received answer when it is called."""


def stored_id(point_id: PointId) -> StoredId:
    """Turn the batch's string id into Qdrant's integer or canonical UUID.

    Raises:
        CollectionError: It is neither.
    """
    # isdecimal() is also true for digits of other scripts, which int() would convert.
    if point_id.isascii() and point_id.isdecimal() and int(point_id) < 2**64:
        return int(point_id)
    try:
        return str(uuid.UUID(point_id))
    except ValueError:
        raise CollectionError(
            f"'{point_id}' is not a point id", "ids are integers from 0 to 2^64-1 or UUIDs"
        ) from None


def keep_finite(points: Iterable[Mapping[str, Vector]]) -> list[dict[str, Vector]]:
    """Leave out the vectors that hold NaN or infinity; points stay in their order."""
    # The squares of large, finite values overflow; `_is_finite` then tests the values themselves.
    with np.errstate(over="ignore", invalid="ignore"):
        return [
            {name: each for name, each in vectors.items() if _is_finite(each)} for vectors in points
        ]


def _is_finite(vector: Vector) -> bool:
    values = vector.values if isinstance(vector, Sparse) else vector.ravel()
    # Nearly every vector has a finite sum of squares, which proves it in a fifth of the time.
    return math.isfinite(values.dot(values)) or bool(np.isfinite(values).all())
