"""Points as they are read and written: ids, payloads with the embedded fields, numpy vectors."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from qdrant_client import models

from xbtmigrate.errors import CollectionError, ConfigError
from xbtmigrate.types import (
    Modality,
    PointId,
    Vectors,
    content_hash,
    is_unicode,
    usable,
    vector_array,
)

Payload: TypeAlias = Mapping[str, Any]
StoredId: TypeAlias = int | str


@dataclass(frozen=True, slots=True)
class EmbeddedFields:
    """Where the embedded text and the image are in a payload.

    Attributes:
        text: Dotted path ("meta.title"), or a template of them ("{title}. {keywords}").
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
            if field is not None and not all(paths_of(field)):
                raise ConfigError(
                    f"'{field}' is neither a dotted path nor a template of dotted paths",
                    'write "description", "meta.title" or "{title}. {keywords}"',
                )

    def text_of(self, payload: Payload) -> str | None:
        """Render the embedded text; None where every field of it is missing or empty."""
        return None if self.text is None else _rendered(self.text, payload)

    def image_of(self, payload: Payload) -> str | None:
        """Return the image reference, None where it is missing."""
        return None if self.image is None else _rendered(self.image, payload)

    def content_of(self, payload: Payload) -> str | None:
        """Render the field that the stored vectors embed."""
        return self.text_of(payload) if self.stored is Modality.TEXT else self.image_of(payload)

    def hash_of(self, payload: Payload) -> str:
        """Hash the field that the stored vectors embed; "" where it is missing."""
        return content_hash(self.content_of(payload))

    def keys(self) -> list[str]:
        """Return the payload's top-level keys that the fields lie under, quoted for Qdrant."""
        fields = [field for field in (self.text, self.image) if field is not None]
        roots = [path.split(".")[0] for field in fields for path in paths_of(field)]
        return [f'"{root}"' for root in dict.fromkeys(roots)]

    def _stored_field(self) -> str | None:
        return self.text if self.stored is Modality.TEXT else self.image


def paths_of(field: str) -> list[str]:
    """Return the dotted paths of a field; an invalid template gives an empty path."""
    if "{" not in field and "}" not in field:
        return [field.strip()]
    try:
        parts = list(Formatter().parse(field))
    except ValueError:
        return [""]
    paths = [
        # Format specs and conversions ("{a:>3}", "{a!r}") are refused: an empty path is invalid.
        "" if form or convert else name
        for _, name, form, convert in parts
        if name is not None
    ]
    return paths or [""]


def _rendered(field: str, payload: Payload) -> str | None:
    # The common case, a text under a top-level key, needs no parsing of the field.
    plain = payload.get(field)
    if isinstance(plain, str) and "." not in field and "{" not in field:
        return plain if plain.strip() else None
    values = [_value(payload, path) for path in paths_of(field)]
    # One present field is enough; the literals of a template alone are not content.
    if not any(values):
        return None
    if "{" not in field:
        return values[0]
    # parse() yields the text before each field; text after the last one has no field.
    literals = [(literal, name is not None) for literal, name, _, _ in Formatter().parse(field)]
    remaining = iter(values)
    return "".join(text + (next(remaining) if slot else "") for text, slot in literals).strip()


def _value(payload: Payload, path: str) -> str:
    return ", ".join(_texts_at(payload, path.split(".")))


def _texts_at(node: object, path: Sequence[str]) -> Iterator[str]:
    if isinstance(node, list):
        for each in node:
            yield from _texts_at(each, path)
    elif path and isinstance(node, Mapping):
        yield from _texts_at(node.get(path[0]), path[1:])
    elif not path and isinstance(node, str):
        if node.strip():
            yield node
    # In Python a bool is an int, but it is not content to embed.
    elif not path and isinstance(node, int | float) and not isinstance(node, bool):
        yield str(node)


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
