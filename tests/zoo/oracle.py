"""What is in Qdrant, read with plain qdrant-client, and whether it is all still there.

The first law: every point, payload and untouched vector is there at the end, under the name that
the application reads, or nothing was written at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models

from tests.zoo.application import Application
from tests.zoo.encoder import refusal

MARK = "_xbtmigrate"
_TOLERANCE = {"float32": 1e-5, "float16": 2e-3, "uint8": 0.0}


class GoneError(Exception):
    """The collection does not exist any more."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A collection at one moment.

    Attributes:
        points: Id -> payload, vectors and shard key.
        settings: Its configuration as plain values.
        collections: Every collection there is, but the tool's journal.
    """

    points: Mapping[int | str, tuple[dict[str, Any], dict[str, Any], Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    collections: frozenset[str] = frozenset()

    @property
    def marked(self) -> list[int | str]:
        """Points with the tool's own payload key."""
        return [each for each, (payload, _, _) in self.points.items() if MARK in payload]


def look(client: QdrantClient, name: str) -> Seen:
    """Read a whole collection."""
    points: dict[int | str, tuple[dict[str, Any], dict[str, Any], Any]] = {}
    offset = None
    names = {each.name for each in client.get_collections().collections}
    if name not in names | {each.alias_name for each in client.get_aliases().aliases}:
        raise GoneError(name)
    while True:
        records, offset = client.scroll(
            name, limit=20, offset=offset, with_vectors=True, with_payload=True
        )
        for record in records:
            vectors = record.vector if isinstance(record.vector, dict) else {"": record.vector}
            found = {key: _vector(each) for key, each in vectors.items() if _given(each)}
            points[record.id] = (record.payload or {}, found, record.shard_key)
        if offset is None:
            break
    return Seen(points, _settings(client, name), frozenset(names - {MARK}))


def untouched(before: Seen, after: Seen) -> list[str]:
    """Say what differs where nothing may have been written."""
    faults = _points(before, after, skipped=set())
    if len(after.marked) > len(before.marked):
        faults.append(f"{len(after.marked)} points bear the tool's mark")
    faults += [f"a collection was left: {each}" for each in after.collections - before.collections]
    faults += [f"{key} changed" for key in before.settings if _changed(before, after, key)]
    return faults


def complete(
    before: Seen,
    after: Seen,
    application: Application,
    vector: str,
    *,
    strategy: str,
    accepted: int,
    beside: bool = False,
) -> list[str]:
    """Say what is missing or wrong once applications read the new vectors.

    Args:
        before: The application's collection as it should be.
        after: What the application reads now.
        application: The application.
        vector: Name of the new vector.
        strategy: What the plan says.
        accepted: Points that the user accepted without a new vector.
        beside: Whether the old vectors are still there beside the new ones.
    """
    skipped = {vector} if beside else {application.vector, vector}
    faults = _points(before, after, skipped=skipped)
    states = _states(before, after, application, vector, strategy)
    faults += [fault for _, fault in states if fault][:4]
    without = sum(not made for made, _ in states)
    if without > accepted:
        faults.append(f"{without} points have no new vector, {accepted} were accepted")
    faults += _kept_settings(before, after, application.vector, vector)
    return faults


def _points(before: Seen, after: Seen, *, skipped: set[str]) -> list[str]:
    lost = [each for each in before.points if each not in after.points]
    strange = [each for each in after.points if each not in before.points]
    faults = [f"{len(lost)} points are lost, such as {lost[0]}"] if lost else []
    faults += [f"{len(strange)} points are new, such as {strange[0]}"] if strange else []
    types = before.settings.get("datatypes", {})
    for each in before.points.keys() & after.points.keys():
        (payload, vectors, key), (payload_now, vectors_now, key_now) = (
            side.points[each] for side in (before, after)
        )
        if _json(payload) != _json(payload_now):
            faults.append(f"the payload of {each} changed: {payload} -> {payload_now}"[:300])
        if key != key_now:
            faults.append(f"the shard key of {each} changed: {key} -> {key_now}")
        for name in (vectors.keys() | vectors_now.keys()) - skipped:
            tolerance = _TOLERANCE[types.get(name, "float32")]
            if not _equal(vectors.get(name), vectors_now.get(name), tolerance):
                faults.append(f"the vector '{name}' of {each} changed")
    return faults[:6]


def _states(
    before: Seen, after: Seen, application: Application, vector: str, strategy: str
) -> list[tuple[bool, str]]:
    """Say of each point whether it has a new vector, and what is wrong with it, if anything."""
    found = []
    for each, (payload, vectors, _) in before.points.items():
        if each not in after.points:
            continue
        made, content = after.points[each][1].get(vector), application.content(payload)
        readable = content is not None and not refusal(content)
        truth = application.new_model.vectors([content])[0] if readable else None
        if made is None:
            usable = _usable(vectors.get(application.vector))
            due = {"full": readable, "forward": usable, "fastfill": usable or readable}[strategy]
            found.append((False, f"{each} has no new vector" if due else ""))
        elif not np.isfinite(made).all():
            found.append((True, f"the new vector of {each} is not finite"))
        elif strategy == "full" and truth is not None and _angle(truth, made) > 5e-3:
            found.append((True, f"the new vector of {each} is not that of its content"))
        else:
            found.append((True, ""))
    return found


def _kept_settings(before: Seen, after: Seen, old: str, new: str) -> list[str]:
    faults = [
        f"the setting {key} is lost: {before.settings[key]} -> {after.settings.get(key)}"
        for key in before.settings
        if key not in ("vectors", "datatypes") and _changed(before, after, key)
    ]
    vectors, vectors_now = before.settings["vectors"], after.settings["vectors"]
    faults += [
        f"the settings of '{name}' are lost: {vectors_now.get(name)}"
        for name in vectors.keys() - {old, new}
        if vectors[name] != vectors_now.get(name)
    ]
    if new not in vectors and new != old and old in vectors and new in vectors_now:
        faults += _inherited(vectors[old], vectors_now[new])
    return faults


def _inherited(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [
        f"the new vector has {key} {new.get(key)}, the old one {old.get(key)}"
        for key in ("on_disk", "quantization_config", "multivector_config")
        if old.get(key) != new.get(key)
    ]


def _settings(client: QdrantClient, name: str) -> dict[str, Any]:
    info = client.get_collection(name)
    config = info.config
    params = config.params.model_dump(mode="json", exclude_none=True)
    vectors = config.params.vectors
    named = {"": vectors} if isinstance(vectors, models.VectorParams) else dict(vectors or {})
    params.pop("vectors", None)
    found: dict[str, Any] = {
        "vectors": {
            key: each.model_dump(mode="json", exclude_none=True) for key, each in named.items()
        },
        "datatypes": {
            key: each.datatype.value if each.datatype else "float32" for key, each in named.items()
        },
        "params": params,
        "indexes": {
            key: each.model_dump(mode="json", exclude={"points"})
            for key, each in info.payload_schema.items()
            if not key.startswith(MARK)
        },
    }
    for key in ("hnsw_config", "optimizer_config", "quantization_config", "strict_mode_config"):
        each = getattr(config, key)
        found[key] = each.model_dump(mode="json", exclude_none=True) if each else None
    found["metadata"] = config.metadata
    return found


def _changed(before: Seen, after: Seen, key: str) -> bool:
    return bool(before.settings[key] != after.settings.get(key))


def _given(vector: Any) -> bool:
    return vector is not None and not (isinstance(vector, list) and not vector)


def _vector(vector: Any) -> Any:
    if isinstance(vector, models.SparseVector):
        return dict(zip(vector.indices, vector.values, strict=True))
    return np.array(vector, np.float32)


def _equal(one: Any, other: Any, tolerance: float) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        close = np.isclose(list(one.values()), [other.get(key, np.nan) for key in one])
        return one.keys() == other.keys() and bool(close.all())
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.shape == other.shape and np.allclose(
            one, other, rtol=1e-5, atol=tolerance, equal_nan=True
        )
    return one is None and other is None


def _usable(vector: np.ndarray | None) -> bool:
    """Whether anything can be computed from it: finite, not zero, of a length that squares."""
    if vector is None:
        return False
    return bool(np.isfinite(vector).all() and 1e-18 < np.abs(vector).max() < 1e18)


def _angle(one: np.ndarray, other: np.ndarray) -> float:
    """Distance of two directions."""
    return float(np.linalg.norm(one / np.linalg.norm(one) - other / np.linalg.norm(other)))


def _json(payload: Mapping[str, Any]) -> str:
    own = {key: value for key, value in payload.items() if key != MARK}
    return json.dumps(own, sort_keys=True)
