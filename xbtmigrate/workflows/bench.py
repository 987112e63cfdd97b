"""Workflows: bench. Measure each stage on the user's own server, and predict from it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xbtmigrate.artefacts import write_atomically
from xbtmigrate.backfill import Backfill
from xbtmigrate.config import Config
from xbtmigrate.errors import ArtefactError, CollectionError
from xbtmigrate.goal import Goal
from xbtmigrate.journal import MigrationRecord, Phase
from xbtmigrate.projectors import Projector
from xbtmigrate.protocols import Gallery
from xbtmigrate.qdrant.connection import check_writable
from xbtmigrate.qdrant.layouts import NewSpace
from xbtmigrate.qdrant.scratch import scratch_gallery
from xbtmigrate.types import (
    Direction,
    Kind,
    Layout,
    Modality,
    Strategy,
    Vectors,
    make_batch,
    vector_array,
    vectors_of,
)
from xbtmigrate.workflows.encoding import Report, encode_readable
from xbtmigrate.workflows.wiring import Migration, open_migration

ENCODED = 256
"""Points encoded, at most, to measure the encoder; it gets `SECONDS` at most."""
SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Rates:
    """Points per second of each stage; None where it was not measured.

    Attributes:
        read: Read with sources and old vectors.
        sweep: Read with sources alone, as the last pass does.
        project: Mapped from the old space into the new one.
        encode: Encoded by the new model.
        write: Written with provenance.
        forward: Read, projected, written and swept, all stages overlapping.
    """

    read: float
    sweep: float
    project: float
    encode: float
    write: float | None
    forward: float | None


@dataclass(frozen=True, slots=True)
class Bench:
    """What was measured, and on what.

    Attributes:
        rates: The rates.
        sample: Points they were measured on.
        points: Points of the collection.
        layout: Where the new vectors would go.
        map: What was timed as the projector.
    """

    rates: Rates
    sample: int
    points: int
    layout: Layout
    map: str

    def seconds(self, strategy: Strategy, fraction: float) -> float | None:
        """Predict a run of a strategy that encodes this share of the points.

        Writes hide behind the encoder, except where it is the faster of the two. None where that
        takes a write rate and none was measured.
        """
        if strategy in (Strategy.KEEP, Strategy.BRIDGE):
            return 0.0
        rates = self.rates
        if rates.write is None or rates.forward is None:
            return None
        forward = self.points / rates.forward if strategy is not Strategy.FULL else 0.0
        encoded = fraction * self.points / min(rates.encode, rates.write)
        return forward + encoded + (self.points / rates.sweep if fraction else 0.0)

    def document(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        fractions = {Strategy.FASTFILL: 0.5, Strategy.FULL: 1.0}
        rates = {name: getattr(self.rates, name) for name in Rates.__dataclass_fields__}
        return {
            "points": self.points,
            "sample": self.sample,
            "layout": self.layout.value,
            "projector": self.map,
            "points_per_second": {
                name: None if rate is None else round(rate, 1) for name, rate in rates.items()
            },
            "predicted_seconds": [
                {
                    "strategy": strategy.value,
                    "fraction": fractions.get(strategy, 0.0),
                    "seconds": self.seconds(strategy, fractions.get(strategy, 0.0)),
                }
                for strategy in Strategy
            ],
        }


def bench(config: Config, *, write: bool, sample: int, report: Report) -> Bench:
    """Measure on a part of the collection.

    Args:
        config: The settings.
        write: Also write, into a collection that is created for it and deleted afterwards.
        sample: Points to measure on, at most.
        report: Called with progress.

    Raises:
        CollectionError: No point has an old vector.
        XbtMigrateError: The server, the collection or a model cannot be used.
    """
    with open_migration(config) as migration:
        batches, read = _read(migration, {"source", "old"}, sample, report)
        _, sweep = _read(migration, {"source"}, sample, report)
        batches = [batch.filter(pc.is_valid(batch["old"])) for batch in batches]
        if not sum(map(len, batches)):
            raise CollectionError(
                f"no point of '{migration.facts.collection}' has an old vector",
                "check qdrant.vector",
            )
        projector = _projector(migration)
        mapped, project = _project(projector, batches)
        layout = migration.layout(resuming=True).layout
        writing: tuple[float, float] | None = None
        if write:
            check_writable(migration.connection, migration.facts.collection)
            space = NewSpace("new", mapped.shape[1], migration.new_distance)
            with scratch_gallery(
                migration.connection, migration.facts, layout, space, batches
            ) as gallery:
                writing = _write(gallery, batches, projector, report)
        measured = Bench(
            Rates(
                read,
                sweep,
                project,
                _encode(migration, batches),
                write=writing[0] if writing else None,
                forward=writing[1] if writing else None,
            ),
            sample=sum(map(len, batches)),
            points=migration.facts.points,
            layout=layout,
            map=projector.name,
        )
        if write:
            text = json.dumps(measured.document(), indent=2)
            write_atomically(_file(migration), lambda path: path.write_text(text, "utf-8"))
    return measured


def measured_write_rate(migration: Migration, layout: Layout) -> float | None:
    """Return the points per second that the last `bench --write` wrote in this layout."""
    try:
        found = json.loads(_file(migration).read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ArtefactError(
            f"{_file(migration)} is damaged: {error}", "delete it, or run bench --write again"
        ) from error
    rate: float | None = found["points_per_second"]["write"]
    return rate if found["layout"] == layout.value else None


def _file(migration: Migration) -> Path:
    return migration.artefacts.folder / "bench.json"


@dataclass(frozen=True, slots=True)
class _Map:
    """The forward projector of the migration, or a random matrix of the same shape."""

    projector: Projector | None
    matrix: Vectors

    @property
    def name(self) -> str:
        return "a matrix" if self.projector is None else self.projector.kind

    @property
    def direction(self) -> Direction:
        return Direction.FORWARD

    def apply(self, vectors: Vectors) -> Vectors:
        if self.projector is not None:
            return self.projector.apply(vectors)
        mapped: Vectors = vectors @ self.matrix
        return mapped

    def uncertainty(self, vectors: Vectors) -> Vectors:
        return np.zeros(len(vectors), np.float32)


class _Forgotten:
    """A journal that keeps nothing, and known vectors of which there are none."""

    def load(self) -> None:
        return None

    def acquire(self, record: MigrationRecord) -> MigrationRecord:
        return record

    def save(self, record: MigrationRecord) -> None:
        del record

    def release(self) -> None:
        return None

    def find(self, hashes: Sequence[str]) -> tuple[Vectors, Any]:
        return np.empty((len(hashes), 0), np.float32), np.zeros(len(hashes), np.bool_)


def _projector(migration: Migration) -> _Map:
    folder = migration.artefacts.projector_folder(Direction.FORWARD)
    trained = Projector.load(folder) if folder.exists() else None
    shape = (migration.facts.size, migration.new_encoder.dimension)
    return _Map(trained, np.random.default_rng(0).standard_normal(shape, np.float32))


def _read(
    migration: Migration, columns: set[str], sample: int, report: Report
) -> tuple[list[pa.RecordBatch], float]:
    """Read at most so many points; returns them and the rate."""
    batches: list[pa.RecordBatch] = []
    seen, start = 0, time.monotonic()
    for batch in migration.reader().read(columns):
        batches.append(batch)
        seen += len(batch)
        report("reading", min(seen, sample), sample)
        if seen >= sample:
            break
    return batches, seen / max(time.monotonic() - start, 1e-9)


def _project(projector: _Map, batches: Sequence[pa.RecordBatch]) -> tuple[Vectors, float]:
    projector.apply(vectors_of(batches[0], "old"))
    start = time.monotonic()
    mapped = [projector.apply(vectors_of(batch, "old")) for batch in batches]
    seconds = max(time.monotonic() - start, 1e-9)
    return mapped[0], sum(map(len, batches)) / seconds


def _encode(migration: Migration, batches: Sequence[pa.RecordBatch]) -> float:
    """Encode some points, after a few that only warm the model up."""
    table = pa.Table.from_batches(batches)
    contents = table[migration.stored.value].to_pylist()
    usable = [row for row, content in enumerate(contents) if content][: ENCODED + 4]
    ids = table["id"].to_pylist()

    def encode(rows: Sequence[int]) -> int:
        _, done = encode_readable(
            migration.new_encoder,
            [contents[row] for row in rows],
            migration.stored,
            ids=[ids[row] for row in rows],
        )
        return int(done.sum())

    encode(usable[:4])
    encoded, start = 0, time.monotonic()
    for first in range(4, len(usable), 32):
        encoded += encode(usable[first : first + 32])
        if time.monotonic() - start > SECONDS:
            break
    return max(encoded, 1) / max(time.monotonic() - start, 1e-9)


def _write(
    gallery: Gallery, batches: Sequence[pa.RecordBatch], projector: _Map, report: Report
) -> tuple[float, float]:
    """Return the rates of writing alone, and of a whole forward run."""
    points, ready = sum(map(len, batches)), [_to_write(projector, batch) for batch in batches]
    start = time.monotonic()
    _run_forward(gallery, projector, report)
    middle = time.monotonic()
    for batch in ready:
        gallery.write(batch, Kind.ENCODED)
    end = time.monotonic()
    return points / (end - middle), points / (middle - start)


def _to_write(projector: _Map, batch: pa.RecordBatch) -> pa.RecordBatch:
    new = vector_array(projector.apply(vectors_of(batch, "old")))
    return make_batch(batch["id"].to_pylist(), content_hash=batch["content_hash"], new=new)


def _run_forward(gallery: Gallery, projector: _Map, report: Report) -> None:
    forgotten = _Forgotten()
    Backfill(
        gallery=gallery,
        journal=forgotten,
        record=MigrationRecord("bench", Phase.PLANNED, ""),
        goal=Goal(0.0, projects=True, max_quarantined=1.0),
        order=lambda: ([], ""),
        modality=Modality.TEXT,
        encoder=None,
        projector=projector,
        known=forgotten,
        batch_size=ENCODED,
        on_progress=lambda step: report(step.stage.value, step.done, step.total),
        should_stop=lambda: "",
    ).run()
