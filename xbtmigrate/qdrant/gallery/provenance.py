"""Build the mark of a point's new vector, and check whether it still holds.

A mark names the content a vector was made from and the vector itself, so whether it is valid
depends only on what the point holds now, not on what happened before or in which order writes
arrived: a run
killed between vector and mark, a request that arrives late, an application that writes back a
payload it read earlier. Vectors are named by a sketch, three sums with fixed random signs, which
survives what a server does to a vector on its way in: unit length, and half precision, which moves
a vector of unit length by 2^-11 at most, and so a sum by more than seven times that once in ten
billion sums (Hoeffding's inequality, for the signs do not depend on the vector).
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from xbtmigrate.qdrant.wire.points import Sparse, Vector
from xbtmigrate.types import Kind, PointId, Vectors, normalized

PROVENANCE = "_xbtmigrate"
"""The one payload key that the tool adds to a point."""
GROUP = 16
"""Most points that share one mark."""
PLAN_LENGTH = 16
"""Characters of the plan's digest that a mark holds."""
# Three sums of 16 bits, so a sketch is eight characters; a sum of signs on a vector of unit length
# has variance 1 and is kept in steps of 1/4096.
_SUMS = 3
_STEPS = 4096.0
_REMAINDERS = 2.0**16
_TOLERANCE = 4
# Hoeffding: a sum of n signed roundings exceeds 7 times their norm, at most 2^-11 for a unit
# vector, with a probability of at most 2 exp(-7^2 / 2), about 5e-11.
_HALF = 7 * _STEPS / 2**11
"""Tolerance that half precision adds."""
_NAME = 8
_ENTRY = 16

Sketches: TypeAlias = npt.NDArray[np.float32]
"""Sketches of n points, shape (n, 3); those of several vectors of a point are added up."""


def build_provenance(plan: str, kind: Kind, made_from: str) -> dict[str, str]:
    """Build the mark of one point.

    Args:
        plan: Digest of the plan.
        kind: How the vector was made.
        made_from: Hash of the content it was made from.
    """
    return {"plan": plan[:PLAN_LENGTH], "kind": str(kind), "hash": made_from}


def build_shared_provenance(
    plan: str, kind: Kind, made_from: Mapping[PointId, str], made: Sketches
) -> dict[str, str]:
    """Build the mark of up to sixteen points, so that one operation marks them all.

    A server spends as long on one operation that changes a payload as on writing one vector,
    however many points it names. Each point finds its own entry of twelve bytes: a hash of 48 bits
    of its id and content, so that no other entry is mistaken for it, and the sketch.

    Args:
        plan: Digest of the plan.
        kind: How the vectors were made.
        made_from: Point id -> hash of the content its vector was made from; `GROUP` at most.
        made: Sketches of the points, in the same order.
    """
    entries = (
        _name(*each) + own for each, own in zip(made_from.items(), pack_sketch(made), strict=True)
    )
    return build_provenance(plan, kind, "".join(entries))


def find_sketch(mark: object, plan: str, point_id: PointId, content: str) -> str | None:
    """Return the sketch that a mark has for a point; None if it is of another plan or content.

    Args:
        mark: What `build_shared_provenance` built, or anything an application put in its place.
        plan: Digest of the plan.
        point_id: The point.
        content: Hash of its present content.
    """
    if not isinstance(mark, Mapping) or mark.get("plan") != plan[:PLAN_LENGTH]:
        return None
    entries, name = str(mark.get("hash")), _name(point_id, content)
    # At fixed offsets only: a match across two entries would be a coincidence.
    for start in range(0, len(entries), _ENTRY):
        if entries.startswith(name, start):
            return entries[start + _NAME : start + _ENTRY]
    return None


def same_vectors(
    remembered: Sequence[str], present: Sketches, halves: int = 0
) -> npt.NDArray[np.bool_]:
    """Return which points hold the vectors that their marks name; shape (n,).

    Vectors of cosine 0 are taken for equal once in five billion times, of cosine 0.995 once in two
    million; with one stored in half precision, once in 60 million and once in 20,000.

    Args:
        remembered: n sketches as `find_sketch` returned them.
        present: Sketches of what the points hold now; NaN where a vector is missing.
        halves: How many vectors of each point are stored in half precision.
    """
    values = base64.b64decode("".join(remembered))
    before = np.frombuffer(values, "<u2").reshape(-1, _SUMS).astype(np.float32)
    around = (before - present * _STEPS) % _REMAINDERS
    # Also false where a vector is missing, and so NaN.
    apart: Sketches = np.minimum(around, _REMAINDERS - around).max(axis=1, initial=0)
    # The error of a sum of independent vectors grows with the root of their number.
    return apart <= _TOLERANCE + _HALF * math.sqrt(halves)


def sketch(name: str, rows: Vectors) -> Sketches:
    """Sketch one vector of n points.

    Args:
        name: Name of the vector.
        rows: Its values, (n, d); their length does not count.
    """
    # Unit length first: cosine collections normalize what they store, others do not.
    return normalized(rows) @ _signs(name, rows.shape[1])


def whole_sketches(points: Sequence[Mapping[str, Vector]]) -> Sketches:
    """Sketch all vectors of n points, dense, sparse or multiple; shape (n, 3)."""
    total: Sketches = np.zeros((len(points), _SUMS), np.float32)
    alike: dict[tuple[str, int], dict[int, Vectors]] = {}
    for row, vectors in enumerate(points):
        for name, vector in vectors.items():
            if isinstance(vector, Sparse):
                total[row] += normalized(vector.values) @ _random_signs(name, vector.indices)
            else:
                alike.setdefault((name, vector.size), {})[row] = vector.ravel()
    # Dense vectors of one name are sketched together: one at a time takes ten times as long.
    for (name, _), rows in alike.items():
        total[list(rows)] += sketch(name, np.stack(list(rows.values())))
    return total


def pack_sketch(sketches: Sketches) -> list[str]:
    """Write each sketch as eight characters."""
    # Little-endian on every machine. The sketches of many vectors add up to more than 16 bits can
    # hold: only the remainder is kept, and `same_vectors` compares remainders.
    steps = np.rint(sketches * _STEPS).astype(np.int64)
    return [_text(row.tobytes()) for row in steps.astype(np.uint16).astype("<u2")]


def whole_hash(payload: Mapping[str, Any]) -> str:
    """Hash a payload without the tool's own key, regardless of the order of its keys."""
    # The tool's key changes with every mark; including it would make each mark invalidate itself.
    own = {key: value for key, value in payload.items() if key != PROVENANCE}
    text = json.dumps(own, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _name(point_id: PointId, content: str) -> str:
    return _text(hashlib.blake2b(f"{point_id} {content}".encode(), digest_size=6).digest())


def _text(packed: bytes) -> str:
    return base64.b64encode(packed).decode()


@lru_cache(maxsize=64)
def _signs(name: str, length: int) -> Sketches:
    return _random_signs(name, np.arange(length, dtype=np.uint32))


def _random_signs(name: str, indices: npt.NDArray[np.uint32]) -> Sketches:
    """Return three signs for each index, the same on every machine; shape (k, 3)."""
    seed = hashlib.blake2b(name.encode(), digest_size=8).digest()
    # The mixing steps of SplitMix64 (Steele, Lea & Flood 2014); overflow is intended.
    mixed = indices.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed += np.frombuffer(seed, "<u8")
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    # Three high bits of each word: the low ones of a multiplication mix least.
    bits = (mixed[:, None] >> np.array([33, 43, 53], np.uint64)) & np.uint64(1)
    return bits.astype(np.float32) * 2 - 1
