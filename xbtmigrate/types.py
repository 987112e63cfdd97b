"""The batch that passes through a run, and the small types that all packages share.

A batch is one Arrow RecordBatch. Its columns, always in this order where present:

=============  ==============================  ===================================================
column         type                            meaning
=============  ==============================  ===================================================
id             string                          point id: decimal digits or a canonical UUID
text           string, nullable                embedded text, rendered from the payload
image          string, nullable                image reference: path, URL, data URI or base64
content_hash   string                          hash of the embedded field only; "" if it is missing
kind           string, nullable                how this plan dealt with the point as it is now; null
                                               where that has still to be done
old            fixed_size_list<float32>[d]     stored vector of the old model, nullable
side           fixed_size_list<float32>[d]     side vector of the projector, nullable; comes with
                                               "old" where the projector takes one
new            fixed_size_list<float32>[d]     vector of the new model, nullable
=============  ==============================  ===================================================

A vector is null where the point has none, and where what it has is not usable (see `usable`).
"""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import reduce
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import TypedDict

from xbtmigrate.errors import VectorError

PointId: TypeAlias = str
Vectors: TypeAlias = npt.NDArray[np.float32]
Scores: TypeAlias = npt.NDArray[np.float32]


# From 32 plain digits to "urn:uuid:" (9) with braces and hyphens (38).
_MIN_UUID, _MAX_UUID = 32, 47


# Stored in the mark of every point: the values must never change.
class Kind(StrEnum):
    """How the new vector of a point was made, or why it has none."""

    PROJECTED = "projected"
    ENCODED = "encoded"
    NO_CONTENT = "no_content"
    REFUSED = "refused"
    NO_OLD_VECTOR = "no_old_vector"

    @property
    def maker(self) -> str:
        """The maker of the vector, for messages."""
        return "the projector" if self is Kind.PROJECTED else "the new model"


MADE = (Kind.PROJECTED, Kind.ENCODED)
"""Kinds of points that have a new vector."""

WITHOUT = {
    Kind.NO_CONTENT: "without content",
    Kind.REFUSED: "refused by the encoder",
    Kind.NO_OLD_VECTOR: "without a usable old vector",
}
"""Kinds of points that get no new vector, and the reason in words."""


class WithoutVector(TypedDict):
    """Points that get no new vector, by the reason."""

    no_content: int
    """Points with nothing to embed."""
    refused: int
    """Points whose content the encoder refused."""
    no_old_vector: int
    """Points without a usable old vector to project."""


class Modality(StrEnum):
    """What an encoder embeds."""

    TEXT = "text"
    IMAGE = "image"


class Distance(StrEnum):
    """Distance of a vector space, as Qdrant names it."""

    COSINE = "Cosine"
    DOT = "Dot"
    EUCLID = "Euclid"
    MANHATTAN = "Manhattan"


class Direction(StrEnum):
    """Direction of a projector: queries new -> old, or gallery vectors old -> new."""

    BRIDGE = "bridge"
    FORWARD = "forward"


class Strategy(StrEnum):
    """What a migration does to the gallery."""

    KEEP = "keep"
    BRIDGE = "bridge"
    FORWARD = "forward"
    FASTFILL = "fastfill"
    FULL = "full"


class Channel(StrEnum):
    """One way to score a query against a stored point: which query vector meets which vector."""

    OLD = "old"  # old query, old vector
    BRIDGE = "bridge"  # new query projected into the old space, old vector
    BLEND = "blend"  # old query turned towards the bridged one, old vector
    FORWARD = "forward"  # new query, old vector projected into the new space
    NEW = "new"  # new query, new vector: exists once the point is re-encoded


class Layout(StrEnum):
    """Where the new vectors go."""

    IN_PLACE = "in_place"
    SHADOW = "shadow"


def content_hash(content: str | None) -> str:
    """Hash one embedded field: 128-bit BLAKE2b in hex, "" for a missing field."""
    if content is None:
        return ""
    # Half a surrogate pair, as JSON can escape it, also gets a hash instead of ending the run.
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def is_unicode(text: str) -> bool:
    """Return whether a text can be written as UTF-8; JSON can escape half a surrogate pair."""
    return text.isascii() or not any("\ud800" <= each <= "\udfff" for each in text)


def normalized(vectors: Vectors) -> Vectors:
    """Scale each row to unit length; a zero row stays zero. Shape (n, d) -> (n, d)."""
    rows = np.asarray(vectors, np.float32)
    if rows.ndim == 2 and len(rows) == 1:  # a query: here each call of numpy's would be felt
        length = np.float32(math.sqrt(rows[0].dot(rows[0])) or 1)
        return cast("Vectors", rows / length)
    # einsum sums the squares without a temporary (n, d) matrix, unlike numpy.linalg.norm.
    norms = np.sqrt(np.einsum("...d,...d->...", rows, rows))[..., None]
    norms[norms == 0] = 1
    return cast("Vectors", rows / norms)


def usable(vectors: Vectors) -> npt.NDArray[np.bool_]:
    """Return which rows are vectors that can be compared; shape (n, d) -> (n,).

    NaN, infinity, zero, and lengths whose square is outside the range of float32 are unusable:
    distances to them mean nothing.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        # In float32, the type in which servers compute distances.
        squares = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float32)
    # A square below `tiny`, the least normal number, has lost digits.
    limits = np.finfo(np.float32)
    return cast("npt.NDArray[np.bool_]", (squares >= limits.tiny) & (squares <= limits.max))


def require_usable(
    vectors: Vectors, ids: Sequence[PointId], maker: str, size: int | None = None
) -> None:
    """Raise for vectors that cannot be compared.

    Args:
        vectors: Float32 (n, d).
        ids: The n points they are for.
        maker: What made them, for the message.
        size: Length that they should have; None where that is checked elsewhere.

    Raises:
        VectorError: Some are not usable, or they have another length.
    """
    if size is not None and vectors.shape[1] != size:
        raise VectorError(
            f"{maker} made vectors of length {vectors.shape[1]}, the collection needs {size}",
            "none of this batch was written: correct what made them",
        )
    lost = [ids[row] for row in np.flatnonzero(~usable(vectors)).tolist()]
    if lost:
        raise VectorError(
            f"{maker} made {len(lost)} vectors that are not finite, zero or of absurd length, "
            f"for example for point {', '.join(lost[:5])}",
            "none of this batch was written: correct what made them",
        )


def vector_array(vectors: Vectors, valid: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """Wrap a (n, d) float32 matrix as a fixed_size_list column without copying the values.

    Args:
        vectors: Matrix of shape (n, d); rows where `valid` is false become null.
        valid: Boolean mask of shape (n,); None means every row is valid.
    """
    contiguous = np.ascontiguousarray(vectors, dtype=np.float32)
    mask = None if valid is None or valid.all() else pa.array(~valid)
    return pa.FixedSizeListArray.from_arrays(
        pa.array(contiguous.reshape(-1)), contiguous.shape[1], mask=mask
    )


def vectors_of(batch: pa.RecordBatch | pa.Table, column: str) -> Vectors:
    """View a fixed_size_list column as a (n, d) float32 matrix; null rows hold NaN or filler.

    A RecordBatch is viewed without a copy; a Table is combined first.
    """
    array = batch.column(column)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    width = array.type.list_size
    # Not `flatten`, which drops null rows; `values` keeps them but ignores the offset of a slice.
    values = array.values.slice(array.offset * width, len(array) * width)
    return cast("Vectors", values.to_numpy(zero_copy_only=True).reshape(len(array), width))


def given_columns(batch: pa.RecordBatch) -> list[str]:
    """Return the names of the columns that a forward projector takes."""
    return [name for name in ("old", "side") if name in batch.schema.names]


def given_of(batch: pa.RecordBatch) -> list[Vectors]:
    """Return a forward projector's inputs: old vectors, and side vectors where there are any."""
    return [vectors_of(batch, name) for name in given_columns(batch)]


def has_given(batch: pa.RecordBatch) -> pa.Array:
    """Return whether each point has every input of a forward projector; boolean (n,)."""
    return reduce(pc.and_, [pc.is_valid(batch[name]) for name in given_columns(batch)])


def keep_given(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Keep the points that a forward projector can map."""
    return batch.filter(has_given(batch))


def require_storable(batch: pa.RecordBatch, size: int, kind: Kind) -> None:
    """Raise if the column `new` of a batch, if there is one, holds unusable vectors.

    Raises:
        VectorError: See `require_usable`.
    """
    if kind not in WITHOUT:
        require_usable(vectors_of(batch, "new"), batch["id"].to_pylist(), kind.maker, size)


def canonical_id(name: str) -> PointId:
    """Spell a point id as batches do: plain digits, or a UUID in small letters with hyphens.

    Qdrant accepts UUIDs in capitals, without hyphens, in braces and as URNs; other texts are kept.
    """
    # Qdrant's integer ids have 64 bits without a sign; "007" is the same point as "7".
    if name.isascii() and name.isdecimal() and int(name) < 2**64:
        return str(int(name))
    if not _MIN_UUID <= len(name) <= _MAX_UUID:
        return name
    try:
        return str(uuid.UUID(name))
    except ValueError:
        return name


def find_sorted(
    keys: npt.NDArray[Any], wanted: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Look up many keys in a sorted array at once.

    Args:
        keys: The sorted keys.
        wanted: The n keys to look up.

    Returns:
        The row of each, meaningless where the key is absent, and which are present; each (n,).
    """
    if not len(keys):
        return np.zeros(len(wanted), np.intp), np.zeros(len(wanted), np.bool_)
    # A key above all others would get a row too many; the comparison below excludes it.
    rows = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return rows, keys[rows] == wanted


def make_batch(ids: Sequence[PointId], **columns: pa.Array | Sequence[Any]) -> pa.RecordBatch:
    """Build a batch from ids and named columns; string columns may be plain sequences."""
    arrays: dict[str, pa.Array] = {"id": pa.array(ids, pa.string())}
    for name, values in columns.items():
        arrays[name] = values if isinstance(values, pa.Array) else pa.array(values, pa.string())
    return pa.RecordBatch.from_pydict(arrays)


def digest_of(parts: Iterable[str | bytes]) -> str:
    """Hash parts, each with its length, by SHA-256; in hex."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode()
        # With the lengths, so that ("ab", "c") and ("a", "bc") differ.
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()
