"""What a worker does: one task of a pass at a time, by the passes of a run in one process.

A worker opens Qdrant and the encoder by itself, from the configuration and its own environment. It
takes plan and projector from the copy published in Qdrant, so it needs no disk of the command.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import ray

import xbtmigrate
from xbtmigrate.artefacts import Artefacts
from xbtmigrate.backfill.equal_contents import RecentVectors
from xbtmigrate.backfill.goal import Sweep, VectorLookup
from xbtmigrate.backfill.make_vectors import VectorMaker
from xbtmigrate.backfill.paced_gallery import PacedGallery
from xbtmigrate.backfill.passes import LocalPasses, Parts
from xbtmigrate.backfill.pipeline import WorkQueue
from xbtmigrate.backfill.step_times import Step, StepTimes
from xbtmigrate.config import Config
from xbtmigrate.errors import EncoderError, StaleError, UnsupportedError, XbtMigrateError
from xbtmigrate.migration.phases import Counts
from xbtmigrate.migration.plan import Plan
from xbtmigrate.projectors import Projector
from xbtmigrate.protocols import Gallery, Written
from xbtmigrate.qdrant.journal.published import fetch
from xbtmigrate.types import Direction, Kind, PointId
from xbtmigrate.workflows.compare_baseline import watch_baseline
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.store import Store, open_connection, store_over
from xbtmigrate.workflows.workspace import artefacts_of
from xbtmigrate_ray.ranges import IdRange, RangeGallery
from xbtmigrate_ray.shared_pace import WorkerPace


@dataclass(frozen=True, slots=True)
class Orders:
    """What all workers of a run are told once.

    Attributes:
        config: The settings.
        version: Version of xbtmigrate that they must have.
        plan: Digest of the plan.
        projector: Digest of the projector; "" where nothing is projected.
        model: Fingerprint of the new model; "" where nothing is encoded.
        batch_size: Points per batch.
        cache: New vectors paid for earlier.
        baseline: Points as they were before the first write; None for none.
    """

    config: Config
    version: str
    plan: str
    projector: str
    model: str
    batch_size: int
    cache: VectorLookup
    baseline: pa.Table | None


@dataclass(frozen=True, slots=True)
class Known:
    """What the run knew when a pass began.

    Attributes:
        quarantined: Point id -> why it cannot be embedded.
        refused: Points and content hashes that the encoder has refused.
        most_quarantined: Points that may turn out impossible to embed.
        points: Points of the collection.
        sweep: What a sweep has to see to, without its ids; None in the other passes.
    """

    quarantined: dict[PointId, str]
    refused: set[tuple[PointId, str]]
    most_quarantined: int
    points: int
    sweep: Sweep | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A part of a pass: a range of ids, or points in the order in which they are encoded.

    Attributes:
        number: Its place in the pass.
        within: The range.
        ids: The points, where they are named.
        expected: The kind that most of them have, where they are to be encoded.
    """

    number: int
    within: IdRange = IdRange()  # noqa: RUF009 - frozen
    ids: Sequence[PointId] | None = None
    expected: Kind | None = None


@dataclass(slots=True)
class Result:
    """What became of a task.

    Attributes:
        task: The task.
        complete: Whether all of it is done; if not, the run was ending or `error` says why.
        points: Points that were looked at.
        last: The last of them, in a range.
        due: Points that a sweep found to be completed.
        counts: What was done.
        quarantined: Points that newly turned out impossible to embed, and why.
        refused: Points and content hashes that the encoder has refused.
        seconds: Seconds spent in each step.
        cost: Money spent on embedding.
        replaced: Points of the baseline whose old vectors an application has replaced.
        error: Why the task failed; None if it did not.
    """

    task: Task
    complete: bool = False
    points: int = 0
    last: PointId | None = None
    due: int = 0
    counts: Counts = field(default_factory=Counts)
    quarantined: dict[PointId, str] = field(default_factory=dict)
    refused: set[tuple[PointId, str]] = field(default_factory=set)
    seconds: dict[Step, float] = field(default_factory=dict)
    cost: float = 0.0
    replaced: list[pa.Table] = field(default_factory=list)
    error: BaseException | None = None


class Worker:
    """One process of the cluster.

    Args:
        keeper: The actor with the pace.
        name: Name of the worker.
    """

    # Set by the first call: what a constructor is given would have to stay in Ray's store, in case
    # that the process is started again.
    _orders: Orders

    def __init__(self, keeper: Any, name: str) -> None:
        self._pace = WorkerPace(keeper, name)
        self._recent: RecentVectors | None = None
        self._kept = contextlib.ExitStack()

    def look_around(self, orders: Orders) -> tuple[str, XbtMigrateError | None]:
        """Open Qdrant and the encoder.

        Returns:
            The address of the machine, and what is missing there; None for nothing.
        """
        self._orders = orders
        try:
            if xbtmigrate.__version__ != self._orders.version:
                raise UnsupportedError(
                    f"xbtmigrate is {xbtmigrate.__version__} there and {self._orders.version} here",
                    "install the same version on all machines",
                )
            with open_connection(self._orders.config):
                pass
            if self._orders.model and self._models.new.fingerprint != self._orders.model:
                raise EncoderError(
                    f"the new model is {self._models.new.fingerprint} there and "
                    f"{self._orders.model} here",
                    "install the same model on all machines",
                )
        except XbtMigrateError as error:
            return ray.util.get_node_ip_address(), error
        return ray.util.get_node_ip_address(), None

    def work(self, orders: Orders, task: Task, known: Known) -> Result:
        """Carry out a task as far as it goes. What fails is returned, with what was done before."""
        self._orders = orders
        result, times = Result(task), StepTimes()
        spent = self._spent()
        maker = None
        try:
            maker = self._make_maker(result, known, times)
            with maker.later, contextlib.closing(_begin(maker, task, known)) as parts:
                for part in parts:
                    result.points += part.points
                    result.last = part.last or result.last
                    result.due += part.due
                    if self._pace.why_end():
                        break
                else:
                    result.complete = True
        # Not raised: what was written before has to be counted.
        except Exception as error:  # noqa: BLE001
            result.error, result.complete = error, False
        if maker is not None:
            self._recent = maker.recent
            result.counts = result.counts.plus(maker.take_noted())
            new = maker.quarantined.keys() - known.quarantined.keys()
            result.quarantined = {point: maker.quarantined[point] for point in new}
            result.refused = maker.refused - known.refused
        result.seconds, result.cost = times.seconds, self._spent() - spent
        return result

    def _make_maker(self, result: Result, known: Known, times: StepTimes) -> VectorMaker:
        def count(written: Written, kind: Kind) -> None:
            more = {kind.value: len(written.written), "vanished": len(written.vanished)}
            result.counts = result.counts.plus(Counts(**more))

        orders, (store, plan, projector) = self._orders, self._parts
        gallery = store.gallery(plan, times)
        paced: Gallery = PacedGallery(gallery, self._pace, self._pace.why_end, times)  # type: ignore[arg-type]
        watched = watch_baseline(
            *(store.connection, plan, orders.baseline, paced), keep=result.replaced.append
        )
        return VectorMaker(
            gallery=RangeGallery(watched, result.task.within),
            modality=self._models.stored,
            encoder=self._models.new if orders.model else None,
            projector=projector,
            cache=orders.cache,
            batch_size=orders.batch_size,
            later=WorkQueue(),
            times=times,
            on_written=count,
            most_quarantined=known.most_quarantined,
            points=known.points,
            quarantined=dict(known.quarantined),
            refused=set(known.refused),
            recent=self._recent,
        )

    @cached_property
    def _models(self) -> Models:
        return Models(self._orders.config)

    @cached_property
    def _parts(self) -> tuple[Store, Plan, Projector | None]:
        """Open Qdrant, and take plan and projector from it.

        Raises:
            StaleError: What is published there belongs to another run.
        """
        config = self._orders.config
        connection = self._kept.enter_context(open_connection(config))
        base = Path(self._kept.enter_context(TemporaryDirectory(prefix="xbtmigrate-")))
        # With a folder of this worker in place of the command's.
        config = config.model_copy(update={"base": base})
        artefacts = artefacts_of(config)
        fetch(connection, config.migration, artefacts.folder)
        plan = artefacts.load_plan()
        if plan.digest != self._orders.plan:
            raise StaleError("another plan was published during the run", "run it again")
        return store_over(config, connection), plan, self._load_projector(artefacts)

    def _load_projector(self, artefacts: Artefacts) -> Projector | None:
        if not self._orders.projector:
            return None
        projector = Projector.load(artefacts.projector_folder(Direction.FORWARD))
        if projector.digest != self._orders.projector:
            raise StaleError("another projector was published during the run", "run it again")
        return projector

    def _spent(self) -> float:
        cost = getattr(self._models.new, "cost", None) if self._orders.model else None
        return float(cost or 0.0)


def _begin(maker: VectorMaker, task: Task, known: Known) -> Parts:
    """Begin a task by the pass that it is a part of."""
    passes = LocalPasses(maker)
    if known.sweep is not None:
        return passes.sweep(replace(known.sweep, ids=task.ids))
    if task.ids is not None:
        return passes.encode(task.ids, task.expected)
    return passes.project(task.within.after)
