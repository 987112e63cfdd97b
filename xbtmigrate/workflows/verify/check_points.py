"""Check points of a migrated gallery against the vectors that their present content gives."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from xbtmigrate.backfill.goal import Due
from xbtmigrate.projectors import Projector
from xbtmigrate.protocols import Encoder, Gallery
from xbtmigrate.qdrant.gallery.compare_shadow import ShadowComparison
from xbtmigrate.types import (
    Kind,
    Modality,
    PointId,
    Vectors,
    given_of,
    normalized,
    vectors_of,
)
from xbtmigrate.workflows.encode_points import encode_readable

LIKE = 0.999
"""Least cosine at which two vectors count as made by the same model from the same content."""


class Fault(StrEnum):
    """What can be wrong with a point."""

    MISSING = "missing"
    STALE = "stale"
    WRONG_KIND = "wrong_kind"
    WRONG_VECTOR = "wrong_vector"
    UNLIKE_SOURCE = "unlike_source"
    STRAY = "stray"


BEHIND = (Fault.MISSING, Fault.STALE, Fault.STRAY)
"""Faults left by writes since the last backfill; another sweep corrects them."""

Found: TypeAlias = dict[PointId, tuple[Fault, str]]
"""Point id -> its fault, and the detail in words."""
Rows: TypeAlias = npt.NDArray[np.intp]


def sample_hash(seed: int, point: PointId) -> float:
    """Draw a number in [0, 1) for a point: the same one at every call."""
    # A hash instead of a generator: no state, and independent of the order of points.
    digest = hashlib.blake2b(f"{seed}:{point}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


@dataclass(slots=True)
class Examiner:
    """Compares points with the vectors that the plan makes of their present content.

    Attributes:
        gallery: The collection as the plan migrates it.
        fidelity: Compares copies with their sources; None in place.
        encoder: The new model.
        projector: Old -> new; None where nothing is projected.
        modality: What the new vectors embed.
        due: Which points must be encoded.
        encodes: Whether points that cannot be projected are encoded.
        compared: Kind -> how many vectors were made again and compared.
        least_cosine: Kind -> the lowest cosine of a stored vector to the one made now.
        remade: Content hash -> the vector made again, of content whose encoded vector was wrong.
    """

    gallery: Gallery
    fidelity: ShadowComparison | None
    encoder: Encoder
    projector: Projector | None
    modality: Modality
    due: Due
    encodes: bool
    compared: dict[str, int] = field(default_factory=dict)
    least_cosine: dict[str, float] = field(default_factory=dict)
    remade: dict[str, Vectors] = field(default_factory=dict)

    def look(self, batch: pa.RecordBatch, chosen: Callable[[PointId], bool]) -> Found:
        """Return the faults of a batch with the columns source, kind, old and new.

        Args:
            batch: The points.
            chosen: Which of the encoded ones are encoded again.
        """
        ids: list[PointId] = batch["id"].to_pylist()
        kinds = batch["kind"].to_pylist()
        # 1. What the marks show, without computing a vector.
        found = self._lacking(batch, ids, kinds)
        # 2. What the vectors show. Projecting is cheap, so all projected ones are compared;
        #    encoding is not, so only the chosen ones are.
        projected = [row for row, kind in enumerate(kinds) if kind == Kind.PROJECTED]
        encoded = [row for row, kind in enumerate(kinds) if kind == Kind.ENCODED]
        rows = np.array([row for row in encoded if chosen(ids[row])], np.intp)
        found |= self._compare(batch, Kind.PROJECTED, *self._project(batch, projected))
        found |= self._compare(batch, Kind.ENCODED, *self._encode(batch, rows))
        # 3. What a shadow copied. A point that is still due is reported above; comparing its copy
        #    would report the same write twice.
        if self.fidelity is not None:
            made = {point for point, kind in zip(ids, kinds, strict=True) if kind is not None}
            for point, unlike in self.fidelity.differences(ids).items():
                if point in made:
                    found[point] = (Fault.UNLIKE_SOURCE, f"the copy differs in {unlike}")
        return found

    def look_again(self, suspects: Found) -> Found:
        """Check points again in their present state; deleted ones have no fault.

        A projected vector is not at fault if the new model cannot embed the point's content, which
        is tested here.
        """
        found: Found = {}
        # A stray has no source point, so the gallery, which reads the source, cannot find it.
        strays = [each for each, (fault, _) in suspects.items() if fault is Fault.STRAY]
        others = [each for each in suspects if each not in set(strays)]
        for batch in self.gallery.read({"source", "kind", "old", "new"}, ids=others):
            found |= self._without_refused(batch, self.look(batch, lambda _: True))
        still = {each for page in self._strays_of(strays) for each in page}
        return found | {each: suspects[each] for each in still}

    def _lacking(
        self, batch: pa.RecordBatch, ids: Sequence[PointId], kinds: Sequence[str | None]
    ) -> Found:
        """Return points that lack the vector they should have, and what they have instead."""
        found: Found = {}
        due = self.due.contains(ids)
        sourced = pc.is_valid(batch[self.modality.value]).to_pylist()
        with_new = pc.is_valid(batch["new"]).to_pylist()
        for row, (point, kind) in enumerate(zip(ids, kinds, strict=True)):
            # A vector without a kind: its mark is missing or names other content or vectors.
            if kind is None and with_new[row]:
                found[point] = (Fault.STALE, "its new vector was not made from its present content")
            elif kind is None:
                found[point] = (Fault.MISSING, "it has no new vector")
            elif kind == Kind.NO_OLD_VECTOR and sourced[row] and self.encodes:
                found[point] = (Fault.MISSING, "it has no new vector, but can be encoded")
            elif kind == Kind.PROJECTED and sourced[row] and due[row]:
                found[point] = (Fault.WRONG_KIND, "its new vector is projected, not encoded")
        return found

    def _project(self, batch: pa.RecordBatch, rows: Sequence[int]) -> tuple[Rows, Vectors]:
        usable = np.array(rows, np.intp)
        if not len(usable) or self.projector is None:
            return np.empty(0, np.intp), np.empty((0, 0), np.float32)
        return usable, self.projector.apply(*(rows[usable] for rows in given_of(batch)))

    def _encode(self, batch: pa.RecordBatch, rows: Rows) -> tuple[Rows, Vectors]:
        part = batch.take(pa.array(rows))
        items = part[self.modality.value].to_pylist()
        made, valid = encode_readable(
            self.encoder, items, self.modality, ids=part["id"].to_pylist()
        )
        return rows[valid], made[valid]

    def _compare(self, batch: pa.RecordBatch, kind: Kind, rows: Rows, made: Vectors) -> Found:
        """Compare stored vectors with those just made; a wrong model's are far below it."""
        if not len(rows):
            return {}
        ids: list[PointId] = batch["id"].to_pylist()
        stored = vectors_of(batch, "new")[rows]
        # Cosine and not equality: servers normalize vectors and round them, some to float16.
        cosines = (normalized(stored) * normalized(made)).sum(axis=1)
        # A stored NaN gives a NaN cosine, which `min` would pass on to the report.
        lowest = float(np.nan_to_num(cosines, nan=-1.0).min())
        self.compared[kind] = self.compared.get(kind, 0) + len(rows)
        self.least_cosine[kind] = min(lowest, self.least_cosine.get(kind, 1.0))
        found: Found = {}
        for row, cosine, right in zip(rows, cosines, made, strict=True):
            # Written this way so that NaN does not count as equal.
            if cosine >= LIKE:
                continue
            detail = f"{kind}; cosine {cosine:.4f} to the one made now"
            found[ids[row]] = (Fault.WRONG_VECTOR, detail)
            if kind is Kind.ENCODED:
                # Kept for a repair: the cache may hold the wrong vector under this hash.
                self.remade[batch["content_hash"][row].as_py()] = right
        return found

    def _without_refused(self, batch: pa.RecordBatch, found: Found) -> Found:
        """Drop the points that are projected because the new model refuses their content."""
        projected = [
            row
            for row, point in enumerate(batch["id"].to_pylist())
            if point in found and found[point][0] is Fault.WRONG_KIND
        ]
        # Only a test can tell: refusals are not stored on projected points.
        readable, _ = self._encode(batch, np.array(projected, np.intp))
        refused = {batch["id"][row].as_py() for row in set(projected) - set(readable.tolist())}
        return {point: fault for point, fault in found.items() if point not in refused}

    def _strays_of(self, ids: Sequence[PointId]) -> Iterable[list[PointId]]:
        return [] if self.fidelity is None else self.fidelity.strays_of(ids)
