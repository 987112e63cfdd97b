"""Build the loop of a backfill from its parts, its goal and the projector of its plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.backfill.goal import Goal, Progress, StopCheck, VectorLookup
from xbtmigrate.backfill.loop import Backfill
from xbtmigrate.backfill.make_vectors import VectorMaker
from xbtmigrate.backfill.passes import LocalPasses, Passes
from xbtmigrate.backfill.step_times import StepTimes
from xbtmigrate.config import Config
from xbtmigrate.errors import StaleError
from xbtmigrate.migration.phases import MigrationRecord
from xbtmigrate.projectors import Projector
from xbtmigrate.protocols import Gallery
from xbtmigrate.qdrant.collection.facts import CollectionFacts
from xbtmigrate.types import Direction
from xbtmigrate.workflows.backfill.frozen_order import FrozenOrder
from xbtmigrate.workflows.backfill.request import BackfillRequest
from xbtmigrate.workflows.compare_baseline import keep_replaced, watch_baseline
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.store import Store
from xbtmigrate.workflows.workspace import Workspace

LEARNED = ("uncertainty", "combined", "benefit")
"""Orders that need the forward projector even if nothing is projected."""


@dataclass(frozen=True, slots=True)
class LoopTask:
    """The task of a loop, and the points it works on.

    Attributes:
        request: What the run does.
        record: Where the migration stands.
        projector: Old -> new; None where nothing is projected.
        gallery: The points.
        order: The frozen order of re-encoding.
        batch_size: Points per batch.
        times: Measures where the time goes.
        passes: Carry out the passes.
    """

    request: BackfillRequest
    record: MigrationRecord
    projector: Projector | None
    gallery: Gallery
    order: FrozenOrder
    batch_size: int = 256
    times: StepTimes = field(default_factory=StepTimes)
    passes: Callable[[VectorMaker], Passes] = LocalPasses


def make_loop(
    store: Store,
    models: Models,
    workspace: Workspace,
    work: LoopTask,
    *,
    on_progress: Callable[[Progress], None],
    should_stop: Callable[[], str],
    until: StopCheck | None = None,
) -> Backfill:
    """Build the loop of a run.

    Args:
        store: What the migration has in Qdrant; the caller holds the lease.
        models: Both models.
        workspace: The migration's files.
        work: What the loop has to do.
        on_progress: Called after each batch.
        should_stop: Called after each batch; a reason stops the run.
        until: May end the encoding before the fraction is reached.
    """
    request, artefacts = work.request, workspace.artefacts
    return Backfill(
        gallery=watch_baseline(
            *(store.connection, request.plan, artefacts.load_baseline(), work.gallery),
            keep=partial(keep_replaced, artefacts),
        ),
        journal=store.journal,
        record=work.record,
        goal=make_goal(store.config, request),
        order=work.order,
        modality=models.stored,
        encoder=models.new if request.fraction > 0 else None,
        projector=work.projector if request.projects else None,
        cache=cached_vectors(workspace, request),
        batch_size=work.batch_size,
        on_progress=on_progress,
        should_stop=should_stop,
        until=until,
        times=work.times,
        passes=work.passes,
    )


def cached_vectors(workspace: Workspace, request: BackfillRequest) -> VectorLookup:
    """Return the new vectors that are paid for; none where nothing is encoded."""
    # Without encoding, no cached vector is used, and a large cache is not worth reading.
    return workspace.cache if request.fraction > 0 else _NOTHING


def make_goal(config: Config, request: BackfillRequest) -> Goal:
    """Return the goal of a run's loop."""
    return Goal(request.fraction, request.projects, config.plan.max_missing)


def load_forward_projector(
    facts: CollectionFacts, models: Models, artefacts: Artefacts, request: BackfillRequest
) -> Projector | None:
    """Load the forward projector where it is needed, and check that it belongs to this plan.

    Raises:
        StaleError: It is another one.
    """
    needed = request.projects or request.order in LEARNED
    if not needed:
        return None
    folder = artefacts.projector_folder(Direction.FORWARD)
    projector = Projector.load(folder)
    manifest = projector.manifest
    expected = {
        # A plan may have been made after the training, for another model or another collection.
        "new model": (manifest.new_model, models.new.fingerprint),
        "old dimension": (manifest.d_in, facts.size),
        "new dimension": (manifest.d_out, request.plan.target.size),
    }
    changes = [
        f"  {name}: projector has {was}, is {now}"
        for name, (was, now) in expected.items()
        if was != now
    ]
    # An empty digest: nothing was projected yet. One query cannot rank the vectors of two maps.
    if request.record and request.record.projector_digest not in ("", projector.digest):
        changes.append("  the vectors written so far were made by another projector")
    if changes:
        raise StaleError(
            f"the projector in {folder} does not fit:\n" + "\n".join(changes),
            "restore it, or train it again with `xbtmigrate train-projector`",
        )
    return projector


class _NoVectors:
    def find(self, hashes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        return np.empty((len(hashes), 0), np.float32), np.zeros(len(hashes), np.bool_)


_NOTHING = _NoVectors()
