"""What must be true of every point once a backfill is through."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models

from tests.faults.application import Application, Point, new_of
from tests.faults.lanes import PAGE
from xbtmigrate import Projector


class WrongError(AssertionError):
    """A point is not what it must be, or a run did not end as it must."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Holds what is stored against the model of the application.

    Attributes:
        application: Knows what each point must be.
        projector: What projected vectors are made by.
        shadow: Whether the new vectors are in a second collection.
        all_encoded: Whether no projected vector may be left.
    """

    application: Application
    projector: Projector
    shadow: bool
    all_encoded: bool

    def look(self, client: QdrantClient, behind: Collection[int]) -> None:
        """Look at every point, on every replica of it.

        Args:
            client: The server that answers.
            behind: Points that were written behind the last pass: only the application's own
                vectors and payload are looked at.

        Raises:
            WrongError: A point is not what it must be.
        """
        name, points = self.application.name, self.application.points
        source = stored(client, name)
        compare_ids(source, points, "source", ())
        target = stored(client, f"{name}__xbtmigrate") if self.shadow else source
        compare_ids(target, points, "target", behind)
        for number, point in points.items():
            _judge_own(number, point, source[number], marked=not self.shadow)
            if number in behind:
                continue
            if self.shadow:
                _judge_own(number, point, target[number], marked=True)
            self._judge_new(number, point, target[number])

    def _judge_new(self, number: int, point: Point, record: models.Record) -> None:
        mark = (record.payload or {}).get("_xbtmigrate")
        vectors: Any = record.vector
        if mark is None or "new" not in vectors:
            raise WrongError(f"point {number} was left without a new vector: {mark}")
        encoded, projected = new_of(point.text), self.projector.apply(point.old[None])[0]
        truth = encoded if mark["kind"] == "encoded" else projected
        if not close(vectors["new"], truth):
            kin = "encoded" if close(vectors["new"], encoded) else "projected"
            other = f", it is {kin}" if close(vectors["new"], [encoded, projected]) else ""
            raise WrongError(f"the {mark['kind']} vector of {number} is stale{other}")
        if self.all_encoded and mark["kind"] != "encoded":
            raise WrongError(f"point {number} was never encoded")


def _judge_own(number: int, point: Point, record: models.Record, *, marked: bool) -> None:
    payload = dict(record.payload or {})
    if payload.pop("_xbtmigrate", None) is not None and not marked:
        raise WrongError(f"point {number} of the source is marked")
    if payload != point.payload:
        raise WrongError(f"payload of {number} is {payload}, must be {point.payload}")
    vectors: Any = record.vector
    for name in ("old", "extra"):
        if name in vectors and not close(vectors[name], getattr(point, name)):
            raise WrongError(f"vector '{name}' of {number} was changed")


def stored(client: QdrantClient, name: str) -> dict[int, models.Record]:
    """Return every point of a collection, whole; one that its replicas disagree on is missing."""
    found: dict[int, models.Record] = {}
    offset = None
    while True:
        records, offset = client.scroll(
            name,
            limit=PAGE,
            offset=offset,
            with_vectors=True,
            with_payload=True,
            consistency=models.ReadConsistencyType.ALL,
        )
        found |= {int(record.id): record for record in records}
        if offset is None:
            return found


def compare_ids(
    found: Mapping[int, object], due: Mapping[int, object], where: str, behind: Collection[int]
) -> None:
    """See that nothing was lost or brought back, but for what was written behind the last pass."""
    lost = due.keys() - found.keys() - set(behind)
    risen = found.keys() - due.keys() - set(behind)
    if lost or risen:
        raise WrongError(f"{where}: lost {sorted(lost)}, brought back {sorted(risen)}")


def close(vector: Any, others: Any) -> bool:
    """Whether a vector has the direction of another, or of one of some."""
    values, rows = np.asarray(vector, np.float64), np.atleast_2d(np.asarray(others, np.float64))
    cosines = rows @ values / np.linalg.norm(rows, axis=1) / np.linalg.norm(values)
    return bool(cosines.max() > 1 - 1e-5)
