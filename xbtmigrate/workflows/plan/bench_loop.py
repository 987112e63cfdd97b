"""Run the loop of a backfill to time it, without cache and journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.backfill.goal import Goal
from xbtmigrate.backfill.loop import Backfill
from xbtmigrate.migration.phases import MigrationRecord, Phase, Stage
from xbtmigrate.projectors import Projector
from xbtmigrate.protocols import Gallery
from xbtmigrate.qdrant.collection.facts import CollectionFacts
from xbtmigrate.types import Direction, PointId, Vectors
from xbtmigrate.workflows.encode_points import Report
from xbtmigrate.workflows.models import Models


@dataclass(frozen=True, slots=True)
class BenchMap:
    """The forward projector of the migration, or a random matrix of the same shape."""

    projector: Projector | None
    matrix: Vectors

    @property
    def name(self) -> str:
        """Kind of the map."""
        return "a matrix" if self.projector is None else self.projector.kind

    @property
    def direction(self) -> Direction:
        """Direction of the map."""
        return Direction.FORWARD

    def apply(self, vectors: Vectors, side: Vectors | None = None) -> Vectors:  # noqa: ARG002
        """Map vectors, (n, d_old) -> (n, d_new)."""
        if self.projector is not None:
            return self.projector.apply(vectors)
        mapped: Vectors = vectors @ self.matrix
        return mapped

    def uncertainty(self, vectors: Vectors, side: Vectors | None = None) -> Vectors:  # noqa: ARG002
        """Return the same for every vector, (n,)."""
        return np.zeros(len(vectors), np.float32)


class _NullJournal:
    """A journal that stores nothing, and an empty cache, since cached vectors are not encoded."""

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


def load_map(facts: CollectionFacts, models: Models, artefacts: Artefacts) -> BenchMap:
    """Load the map that is timed: the migration's projector, or a random matrix."""
    folder = artefacts.projector_folder(Direction.FORWARD)
    trained = Projector.load(folder) if folder.exists() else None
    if trained is not None and trained.d_side:
        trained = None  # the copies that are written to have no side vector
    shape = (facts.size, models.new.dimension)
    return BenchMap(trained, np.random.default_rng(0).standard_normal(shape, np.float32))


def run_loop(
    models: Models,
    gallery: Gallery,
    projector: BenchMap,
    goal: Goal,
    *,
    ids: Sequence[PointId],
    batch_size: int,
    report: Report,
) -> None:
    """Run the loop of `backfill` on a scratch gallery, with nothing cached and nothing stored.

    With a fraction it starts with encoding; without one it times projecting.
    """
    stage = Stage.ENCODE if goal.fraction else None
    forgotten = _NullJournal()
    Backfill(
        gallery=gallery,
        journal=forgotten,
        record=MigrationRecord("bench", Phase.PLANNED, "", stage=stage),
        goal=goal,
        order=lambda: (ids, ""),
        modality=models.stored,
        encoder=models.new,
        projector=projector,
        cache=forgotten,
        batch_size=batch_size,
        on_progress=lambda step: report(step.stage.doing, step.done, step.total),
        should_stop=lambda: "",
    ).run()
