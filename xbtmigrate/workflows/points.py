"""Survey every point of a collection once, and draw a uniform sample of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from xbtmigrate.backfill.id_set import IdSet
from xbtmigrate.protocols import Gallery
from xbtmigrate.types import Modality, PointId, Vectors, given_of, keep_given

SHOWN = 5
"""Most ids that are named as examples."""


@dataclass(frozen=True, slots=True)
class Points:
    """Points read from the gallery, in columns of n rows.

    Attributes:
        ids: Point ids.
        texts: Embedded texts, None where missing.
        images: Image references, None where missing.
        hashes: Hashes of the embedded field.
        old: Stored old vectors, float32 (n, d_old).
        side: Their side vectors, float32 (n, d_side); None where none is configured.
    """

    ids: Sequence[PointId]
    texts: Sequence[str | None]
    images: Sequence[str | None]
    hashes: Sequence[str]
    old: Vectors
    side: Vectors | None = None

    def __len__(self) -> int:
        """Number of points."""
        return len(self.ids)

    def content(self, modality: Modality) -> Sequence[str | None]:
        """Texts or image references."""
        return self.texts if modality is Modality.TEXT else self.images

    def rows(self, rows: npt.NDArray[np.integer] | Sequence[int]) -> Points:
        """Keep the points of these rows, in this order."""
        return Points(
            [self.ids[row] for row in rows],
            [self.texts[row] for row in rows],
            [self.images[row] for row in rows],
            [self.hashes[row] for row in rows],
            self.old[rows],
            None if self.side is None else self.side[rows],
        )

    def join(self, others: Points) -> Points:
        """Append other points, without labels."""
        sided = self.side is not None and others.side is not None
        return Points(
            [*self.ids, *others.ids],
            [*self.texts, *others.texts],
            [*self.images, *others.images],
            [*self.hashes, *others.hashes],
            np.concatenate([self.old, others.old]),
            np.concatenate([self.side, others.side]) if sided else None,
        )


@dataclass(slots=True)
class Survey:
    """Exact counts of the whole collection, made batch by batch.

    Attributes:
        points: Points seen.
        with_text: Points with a text.
        with_image: Points with an image reference.
        missing: Points without the field that the vectors embed.
        neither: Those of them that have no old vector either.
        examples_missing: Ids of some of them.
        unusable: Points whose old vector is not usable.
        examples_unusable: Ids of some of them.
        content_bytes: Bytes of text and image references, all points together.
        sample: Ids of a uniform sample of the points that have their source.
        rate: Points read per second.
    """

    points: int = 0
    with_text: int = 0
    with_image: int = 0
    missing: int = 0
    neither: int = 0
    examples_missing: list[PointId] = field(default_factory=list)
    unusable: int = 0
    examples_unusable: list[PointId] = field(default_factory=list)
    content_bytes: int = 0
    sample: list[PointId] = field(default_factory=list)
    rate: float = 0.0

    def count(self, batch: pa.RecordBatch, without_old: IdSet | None) -> np.ndarray:
        """Count a batch, and return the ids of its points that have their source."""
        # An empty content_hash marks a point without the embedded field.
        sourced = np.asarray(pc.not_equal(batch["content_hash"], ""))
        ids = np.array(batch["id"].to_pylist(), object)
        self.points += len(batch)
        self.with_text += len(batch) - batch["text"].null_count
        self.with_image += len(batch) - batch["image"].null_count
        self.content_bytes += _bytes(batch["text"]) + _bytes(batch["image"])
        self.missing += int((~sourced).sum())
        self.examples_missing += list(ids[~sourced][: SHOWN - len(self.examples_missing)])
        if without_old is not None:
            # `old` is also null where a stored vector cannot be used: not finite, zero or of
            # absurd length. The server counts these points as having the vector.
            lacking = np.asarray(pc.is_null(batch["old"]))
            strange = ids[lacking & ~without_old.contains(list(ids))]
            self.neither += int((lacking & ~sourced).sum())
            self.unusable += len(strange)
            self.examples_unusable += list(strange[: SHOWN - len(self.examples_unusable)])
        kept: np.ndarray = ids[sourced]
        return kept


def survey(
    gallery: Gallery,
    *,
    sample: int,
    seed: int,
    report: Callable[[str, int, int], None],
    without_old: IdSet | None = None,
) -> Survey:
    """Read every point once: exact coverage, and a uniform sample in bounded memory.

    Args:
        gallery: The collection.
        sample: Size of the sample.
        seed: Seed of the sample; the same collection gives the same sample.
        report: Called with progress.
        without_old: The points that have no old vector, where old vectors are to be looked at.
    """
    rng, total = np.random.default_rng(seed), gallery.count()
    seen = Survey()
    drawn, lots = np.empty(0, object), np.empty(0)
    start = time.monotonic()
    columns = {"source"} if without_old is None else {"source", "old"}
    for batch in gallery.read(columns):
        sourced = seen.count(batch, without_old)
        # Bottom-k sampling: every point draws a random number, and the `sample` smallest are kept.
        # The number of points need not be known, and a smaller sample begins a larger one.
        drawn = np.concatenate([drawn, sourced])
        lots = np.concatenate([lots, rng.random(len(sourced))])
        keep = np.argsort(lots, kind="stable")[:sample]
        drawn, lots = drawn[keep], lots[keep]
        report("surveying", seen.points, total)
    seen.sample = list(drawn)
    # The floor avoids a division by zero for a tiny collection and a coarse clock.
    seen.rate = seen.points / max(time.monotonic() - start, 1e-9)
    return seen


def take(gallery: Gallery, ids: Sequence[PointId] | None = None) -> Points:
    """Read points with their sources, old and side vectors; those that lack one are left out.

    Args:
        gallery: The collection.
        ids: Which points, in this order; None for all of them.
    """
    # Only points that a forward projector can map: training and measuring need both vectors.
    batches = [keep_given(batch) for batch in gallery.read({"source", "old"}, ids=ids)]
    if not batches:
        return Points([], [], [], [], np.empty((0, 0), np.float32))
    table = pa.Table.from_batches(batches)
    given = [given_of(batch) for batch in batches]
    old, *side = (np.concatenate(each) for each in zip(*given, strict=True))
    return Points(
        ids=table["id"].to_pylist(),
        texts=table["text"].to_pylist(),
        images=table["image"].to_pylist(),
        hashes=table["content_hash"].to_pylist(),
        old=old,
        side=side[0] if side else None,
    )


def _bytes(column: pa.Array) -> int:
    return pc.sum(pc.binary_length(column)).as_py() or 0
