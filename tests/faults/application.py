"""An application that writes while its collection is migrated, and knows what each point is."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models

from tests.support.texts import NEW, OLD
from xbtmigrate.types import Modality

POINTS, BEYOND, VERSIONS = 150, 30, 4
PAUSE = 0.015
_PATIENCE = 60.0


def text_of(point: int, version: int) -> str:
    return f"entry {point} in its version {version}, a text that is embedded"


TEXTS = [text_of(point, version) for point in range(POINTS + BEYOND) for version in range(VERSIONS)]
_ROW = {text: row for row, text in enumerate(TEXTS)}
OLD_ROWS, NEW_ROWS = (each.encode(TEXTS, Modality.TEXT) for each in (OLD, NEW))


def old_of(text: str) -> np.ndarray:
    return OLD_ROWS[_ROW[text]]


def new_of(text: str) -> np.ndarray:
    return NEW_ROWS[_ROW[text]]


@dataclass(frozen=True, slots=True)
class Point:
    """What the application last stored, without the tool's own key and vector."""

    payload: Mapping[str, Any]
    old: np.ndarray
    extra: np.ndarray

    @property
    def text(self) -> str:
        return str(self.payload["text"])

    @property
    def vectors(self) -> dict[str, list[float]]:
        return {"old": self.old.tolist(), "extra": self.extra.tolist()}

    @classmethod
    def make(cls, number: int, version: int, note: int) -> Point:
        text = text_of(number, version)
        payload = {"text": text, "note": note, "deep": {"list": [1, None, "ü"]}}
        return cls(payload, old_of(text), _extra(note))


def _extra(note: int) -> np.ndarray:
    return np.array([note % 7 + 1, 1, 2], np.float32)


@dataclass(slots=True)
class Application:
    """Several writers over one collection; each operation is repeated until it is acknowledged.

    Attributes:
        url: The server, not through the proxy.
        name: The collection.
        points: What is there, by id.
        changed: When each point was last written, by `time.monotonic`; also of deleted ones.
        done: Name of operation -> how often it was done.
        keys: The shard keys that its points are under in turn; none without custom sharding.
    """

    url: str
    name: str
    keys: Sequence[str] = ()
    points: dict[int, Point] = field(default_factory=dict)
    changed: dict[int, float] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    _kept: dict[int, list[models.Record]] = field(default_factory=dict)
    _locks: dict[int, threading.Lock] = field(default_factory=dict)
    _writers: list[threading.Thread] = field(default_factory=list)
    _quiet: threading.Event = field(default_factory=threading.Event)
    _failures: list[BaseException] = field(default_factory=list)

    def fill(self, client: QdrantClient) -> None:
        self._locks = {number: threading.Lock() for number in range(POINTS + BEYOND)}
        self.points = {number: Point.make(number, 0, number) for number in range(POINTS)}
        groups = max(1, len(self.keys))
        for first in range(groups):
            stored = [
                models.PointStruct(
                    id=number,
                    vector=self.points[number].vectors,
                    payload=dict(self.points[number].payload),
                )
                for number in range(first, POINTS, groups)
            ]
            client.upsert(self.name, stored, wait=True, **self._keyed(first))

    def start(self, seed: int, writers: int) -> None:
        for writer in range(writers):
            rng = random.Random(f"{seed}/{writer}")
            thread = threading.Thread(target=self._write, args=(rng,), daemon=True)
            self._writers.append(thread)
            thread.start()

    def quieten(self) -> None:
        """Let each writer end with the operation it is at."""
        self._quiet.set()

    def end(self) -> None:
        """End the writers, and wait for them."""
        self.quieten()
        for writer in self._writers:
            writer.join()
        if self._failures:
            raise self._failures[0]

    def _write(self, rng: random.Random) -> None:
        client = QdrantClient(url=self.url, check_compatibility=False, timeout=30)
        try:
            while not self._quiet.is_set():
                # A few points are written much more often than the others.
                hot = rng.random() < 0.5
                number = rng.randrange(12) * 13 if hot else rng.randrange(POINTS + BEYOND)
                with self._locks[number]:
                    self._operate(client, rng, number)
                time.sleep(rng.uniform(0, 2 * PAUSE))
        except BaseException as error:  # noqa: BLE001 - raised again by `end`
            self._failures.append(error)
        finally:
            client.close()

    def _operate(self, client: QdrantClient, rng: random.Random, number: int) -> None:
        present = self.points.get(number)
        fresh = Point.make(number, rng.randrange(VERSIONS), rng.randrange(10**6))
        name, after = "create", fresh
        if present is None:
            self._repeat(lambda: self._upsert(client, number, fresh))
        else:
            name = rng.choice(list(_OPERATIONS))
            operation = _OPERATIONS[name]
            after = self._repeat(lambda: operation(self, client, number, present, fresh))
        if after is None:
            self.points.pop(number, None)
        else:
            self.points[number] = after
        self.changed[number] = time.monotonic()
        self.done[name] = self.done.get(name, 0) + 1

    def _repeat(self, operation: Callable[[], Any]) -> Any:
        """Repeat it while the server is away: what was acknowledged is then what was done last."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return operation()
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _keyed(self, number: int) -> dict[str, Any]:
        """What tells Qdrant where a point is."""
        return {"shard_key_selector": self.keys[number % len(self.keys)]} if self.keys else {}

    def _upsert(self, client: QdrantClient, number: int, point: Point) -> Point:
        stored = models.PointStruct(id=number, vector=point.vectors, payload=dict(point.payload))
        client.upsert(self.name, [stored], wait=True, **self._keyed(number))
        return point

    def _upsert_with_our_key(
        self, client: QdrantClient, number: int, present: Point, fresh: Point
    ) -> Point:
        """Read, change and upsert: the key of the tool stays, its vector goes."""
        [record] = client.retrieve(self.name, [number], **self._keyed(number))
        payload = {**(record.payload or {}), **fresh.payload}
        stored = models.PointStruct(id=number, vector=fresh.vectors, payload=payload)
        client.upsert(self.name, [stored], wait=True, **self._keyed(number))
        return fresh

    def _change_text(
        self, client: QdrantClient, number: int, present: Point, fresh: Point
    ) -> Point:
        """The text first, then the vector, as two requests."""
        client.set_payload(
            self.name, {"text": fresh.text}, points=[number], wait=True, **self._keyed(number)
        )
        time.sleep(PAUSE)
        self._set_vector(client, number, "old", fresh.old)
        return replace(present, payload={**present.payload, "text": fresh.text}, old=fresh.old)

    def _change_text_alone(
        self, client: QdrantClient, number: int, present: Point, fresh: Point
    ) -> Point:
        client.set_payload(
            self.name, {"text": fresh.text}, points=[number], wait=True, **self._keyed(number)
        )
        return replace(present, payload={**present.payload, "text": fresh.text})

    def _change_old(self, client: QdrantClient, number: int, present: Point, fresh: Point) -> Point:
        self._set_vector(client, number, "old", fresh.old)
        return replace(present, old=fresh.old)

    def _change_extra(
        self, client: QdrantClient, number: int, present: Point, fresh: Point
    ) -> Point:
        self._set_vector(client, number, "extra", fresh.extra)
        return replace(present, extra=fresh.extra)

    def _set_vector(self, client: QdrantClient, number: int, name: str, vector: np.ndarray) -> None:
        changed = models.PointVectors(id=number, vector={name: vector.tolist()})
        client.update_vectors(self.name, [changed], wait=True, **self._keyed(number))

    def _change_note(
        self, client: QdrantClient, number: int, present: Point, fresh: Point
    ) -> Point:
        note = {"note": fresh.payload["note"]}
        client.set_payload(self.name, note, points=[number], wait=True, **self._keyed(number))
        return replace(present, payload={**present.payload, **note})

    def _keep(self, client: QdrantClient, number: int, present: Point, fresh: Point) -> Point:
        """Read a point and hold on to it."""
        kept = client.retrieve(self.name, [number], with_vectors=True, **self._keyed(number))
        self._kept[number] = [*self._kept.get(number, []), *kept][-3:]
        return present

    def _put_payload_back(
        self, client: QdrantClient, number: int, present: Point, fresh: Point
    ) -> Point:
        """Write back a payload read earlier, the tool's key included; the vectors stay."""
        if not (kept := self._kept.get(number)):
            return self._keep(client, number, present, fresh)
        payload = kept[0].payload or {}
        client.overwrite_payload(
            self.name, payload, points=[number], wait=True, **self._keyed(number)
        )
        return replace(present, payload=_own(payload))

    def _put_all_back(
        self, client: QdrantClient, number: int, present: Point, fresh: Point
    ) -> Point:
        """Write back a whole point read earlier, with every vector it had."""
        if not (kept := self._kept.get(number)):
            return self._keep(client, number, present, fresh)
        record = kept[0]
        stored = models.PointStruct(id=number, vector=record.vector, payload=record.payload)  # type: ignore[arg-type]
        client.upsert(self.name, [stored], wait=True, **self._keyed(number))
        vectors: Any = record.vector
        old, extra = (np.array(vectors[name], np.float32) for name in ("old", "extra"))
        return Point(_own(record.payload or {}), old, extra)

    def _overwrite(self, client: QdrantClient, number: int, present: Point, fresh: Point) -> Point:
        return self._upsert(client, number, fresh)

    def _delete(self, client: QdrantClient, number: int, present: Point, fresh: Point) -> None:
        client.delete(
            self.name, models.PointIdsList(points=[number]), wait=True, **self._keyed(number)
        )


_OPERATIONS: dict[str, Callable[..., Point | None]] = {
    "overwrite": Application._overwrite,
    "upsert with our key": Application._upsert_with_our_key,
    "text, then vector": Application._change_text,
    "text alone": Application._change_text_alone,
    "old vector alone": Application._change_old,
    "other vector alone": Application._change_extra,
    "other payload": Application._change_note,
    "read and keep": Application._keep,
    "put payload back": Application._put_payload_back,
    "put all back": Application._put_all_back,
    "delete": Application._delete,
}


def _own(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in payload.items() if key != "_xbtmigrate"}
