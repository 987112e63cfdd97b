"""The engine: workers on a Ray cluster, looked at before the lease is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import xbtmigrate
from xbtmigrate.backfill.make_vectors import VectorMaker
from xbtmigrate.backfill.pace import Limits, Pace
from xbtmigrate.backfill.passes import Passes
from xbtmigrate.errors import ConfigError, ConnectionFailedError, PluginError
from xbtmigrate.workflows.backfill.engine import Job
from xbtmigrate.workflows.backfill.make_loop import cached_vectors
from xbtmigrate.workflows.compare_baseline import keep_replaced
from xbtmigrate_ray.cluster import open_cluster
from xbtmigrate_ray.passes import RayPasses
from xbtmigrate_ray.ranges import cut_ranges
from xbtmigrate_ray.shared_pace import PaceKeeper, SharedPace
from xbtmigrate_ray.worker import Orders, Worker

START_SECONDS = 600.0
"""Time for all workers to start and to load the model, which may have to be fetched first."""
RANGES_EACH = 8


class RayEngine:
    """Carries out the passes on actors of Ray, each with one copy of the new model.

    Args:
        address: "HOST:PORT" of a cluster, "auto" for the one on this machine; unset, a cluster is
            started on this machine for the time of the run.
        actors: Number of workers.
        gpus_per_actor: GPUs of each; a share such as 0.5 puts two on one.

    Raises:
        ConfigError: A number is out of range.
    """

    def __init__(
        self, *, address: str | None = None, actors: int = 2, gpus_per_actor: float = 0.0
    ) -> None:
        if actors < 1 or gpus_per_actor < 0:
            raise ConfigError("--actors must be 1 or more, --gpus-per-actor 0 or more", "")
        self._address, self._actors, self._gpus = address, actors, gpus_per_actor

    @contextmanager
    def open(self, job: Job) -> Iterator[RayCrew]:
        """Start the workers, and look whether each has what it needs.

        Raises:
            XbtMigrateError: The cluster cannot be used, or a worker lacks something.
        """
        if job.store.connection.embedded:
            raise ConfigError(
                "an embedded collection can be opened by one process alone",
                "leave out --engine, or move the collection to a server",
            )
        with open_cluster(self._address, self._actors, self._gpus):
            yield _start(job, self._actors, self._gpus)


@dataclass(frozen=True, slots=True)
class RayCrew:
    """The workers of one run; they end with the connection to the cluster.

    Attributes:
        job: What the run does.
        keeper: The actor with the pace.
        workers: The actors that do the work.
        orders: What they are told once, in Ray's store.
    """

    job: Job
    keeper: Any
    workers: Sequence[Any]
    orders: Any

    def pace(self, limits: Limits, batch_size: int, say: Callable[[str], None]) -> Pace:
        """Return the pace that all workers keep."""
        ray.get(self.keeper.begin.remote(limits, batch_size))
        return cast("Pace", SharedPace(self.keeper, say))

    def passes(self, maker: VectorMaker) -> Passes:
        """Return the passes on the workers."""
        job = self.job
        cut = partial(
            cut_ranges,
            job.store.connection,
            job.request.plan.collection.name,
            maker.points,
            least=RANGES_EACH * len(self.workers),
        )
        keep = partial(keep_replaced, job.workspace.artefacts)
        return RayPasses(maker, self.workers, self.keeper, self.orders, cut, job.spend, keep)


def _start(job: Job, actors: int, gpus: float) -> RayCrew:
    """Start the workers, and look whether each has what it needs.

    Raises:
        PluginError: The packages are missing there, or others are installed.
        ConnectionFailedError: They do not start.
        XbtMigrateError: What a worker lacks.
    """
    # The keeper is on this machine, so that it is cut off from the workers where the command is.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    keeper = ray.remote(PaceKeeper).options(num_cpus=0, scheduling_strategy=here).remote()
    orders = ray.put(_orders(job))
    # Ray starts a worker that was killed again, as often as it takes, and repeats its task.
    start = ray.remote(Worker).options(
        num_cpus=1, num_gpus=gpus, max_restarts=-1, max_task_retries=-1
    )
    workers = [start.remote(keeper, str(number)) for number in range(actors)]
    try:
        looks = [each.look_around.remote(orders) for each in workers]
        for address, error in ray.get(looks, timeout=START_SECONDS):
            if error is not None:
                raise type(error)(f"on the worker at {address}: {error.message}", error.hint)
    except ray.exceptions.GetTimeoutError as error:
        raise ConnectionFailedError(
            f"not all of {actors} workers started within {START_SECONDS:g} s",
            "`ray status` shows what the cluster lacks; or lower --actors",
        ) from error
    except ray.exceptions.RayError as error:
        raise PluginError(
            f"a worker of the Ray cluster cannot start: {str(error).strip().splitlines()[-1]}",
            "install the same xbtmigrate, xbtmigrate-ray and encoder on every machine",
        ) from error
    return RayCrew(job, keeper, workers, orders)


def _orders(job: Job) -> Orders:
    request, artefacts = job.request, job.workspace.artefacts
    return Orders(
        config=job.store.config,
        version=xbtmigrate.__version__,
        plan=request.plan.digest,
        projector=job.projector.digest if job.projector is not None and request.projects else "",
        model=job.models.new.fingerprint if request.fraction > 0 else "",
        batch_size=job.batch_size,
        cache=cached_vectors(job.workspace, request),
        baseline=artefacts.load_baseline(),
    )
