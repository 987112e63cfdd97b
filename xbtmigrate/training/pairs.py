"""Pairs: vectors of the old and the new model for the same content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import pyarrow as pa

from xbtmigrate.errors import ArtefactError, TrainingError
from xbtmigrate.tables import VECTORS, read_parquet, write_parquet
from xbtmigrate.types import PointId, Vectors, digest_of, vector_array, vectors_of


class PairSource(StrEnum):
    """What the two sides of a pair embed."""

    TEXT = "text"
    """Both models embed the same text."""
    CAPTION_IMAGE = "caption_image"
    """The old model embeds a point's image, the new model its caption."""
    IMAGE = "image"
    """Both models embed the same image."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Vectors of both models for the same n points.

    Attributes:
        ids: Point ids, n.
        content_hashes: Hash of the embedded field of each point, n.
        old: Vectors of the old model, float32 (n, d_old).
        new: Vectors of the new model, float32 (n, d_new).
        source: What the two sides embed.
        side: Side vectors of the points, float32 (n, d_side); None for none.
        query_side: Side vectors of their texts for a bridge, which maps queries, float32
            (n, d_query_side); None for none. Not written to files.

    Raises:
        TrainingError: The columns do not have the same length, or a matrix is not (n, d).
    """

    # The hash shows whether a point still has the content that its pair was made from.
    ids: Sequence[PointId]
    content_hashes: Sequence[str]
    old: Vectors
    new: Vectors
    source: PairSource
    side: Vectors | None = None
    query_side: Vectors | None = None

    def __post_init__(self) -> None:
        """Check that the columns belong together."""
        columns = (self.ids, self.content_hashes, self.old, self.new, self.side, self.query_side)
        lengths = {len(each) for each in columns if each is not None}
        if len(lengths) != 1 or self.old.ndim != 2 or self.new.ndim != 2:
            raise TrainingError(
                f"pairs '{self.source}' have {len(self.ids)} ids, old vectors of shape "
                f"{self.old.shape} and new vectors of shape {self.new.shape}",
                "give one old and one new vector per id",
            )

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.ids)


def joined_pairs(groups: Sequence[Pairs]) -> list[Pairs]:
    """Join pairs of the same source, in the order in which the sources first occur."""
    sources = dict.fromkeys(group.source for group in groups)
    return [_joined([each for each in groups if each.source is source]) for source in sources]


def pairs_digest(pairs: Sequence[Pairs]) -> str:
    """Identify pairs by ids, contents and vectors; hex."""
    parts: list[str | bytes] = []
    for group in pairs:
        parts += [group.source, *group.ids, *group.content_hashes]
        for vectors in (group.old, group.new, group.side, group.query_side):
            parts += [] if vectors is None else [np.ascontiguousarray(vectors).data.tobytes()]
    return digest_of(parts)


def save_pairs(path: Path, pairs: Sequence[Pairs]) -> None:
    """Write pairs of one or more sources to one Parquet file, atomically."""
    tables = [
        pa.table(
            {
                "id": pa.array(group.ids, pa.string()),
                "content_hash": pa.array(group.content_hashes, pa.string()),
                "source": pa.array([str(group.source)] * len(group), pa.string()),
                "old": vector_array(group.old),
                "new": vector_array(group.new),
            }
            | ({} if group.side is None else {"side": vector_array(group.side)})
        )
        for group in pairs
    ]
    table = pa.concat_tables(tables)
    write_parquet(path, table, compression="zstd")


def load_pairs(path: Path) -> list[Pairs]:
    """Read pairs back, one object per source.

    Raises:
        ArtefactError: The file is missing, damaged or not a file of pairs.
    """
    hint = "run `xbtmigrate train-projector` again, which makes new ones"
    text = dict.fromkeys(("id", "content_hash", "source"), pa.string())
    columns = {**text, "old": VECTORS, "new": VECTORS}
    try:
        table = read_parquet(path, columns, hint, optional={"side": VECTORS})
        sources = table.column("source").to_numpy(zero_copy_only=False)
        return [
            _group(table.filter(pa.array(sources == name)), PairSource(name))
            # In the file's order, on which `pairs_digest` depends.
            for name in dict.fromkeys(sources)
        ]
    except (FileNotFoundError, ValueError) as error:
        raise ArtefactError(f"the pairs in {path} cannot be read: {error}", hint) from error


def _joined(groups: Sequence[Pairs]) -> Pairs:
    """Join pairs of one source."""
    return Pairs(
        [point for each in groups for point in each.ids],
        [digest for each in groups for digest in each.content_hashes],
        np.concatenate([each.old for each in groups]),
        np.concatenate([each.new for each in groups]),
        groups[0].source,
        _joined_sides([each.side for each in groups]),
        _joined_sides([each.query_side for each in groups]),
    )


def _joined_sides(sides: Sequence[Vectors | None]) -> Vectors | None:
    given = [each for each in sides if each is not None]
    return np.concatenate(given) if len(given) == len(sides) else None


def _group(table: pa.Table, source: PairSource) -> Pairs:
    """Build the pairs of one source."""
    ids, hashes = table.column("id").to_pylist(), table.column("content_hash").to_pylist()
    side = vectors_of(table, "side") if "side" in table.column_names else None
    old, new = (vectors_of(table, name) for name in ("old", "new"))
    return Pairs(ids, hashes, old, new, source, side)
