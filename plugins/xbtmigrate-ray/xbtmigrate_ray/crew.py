"""The workers of one run, looked at before the lease is taken."""

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
from xbtmigrate.errors import ConnectionFailedError, PluginError
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


@contextmanager
def start_crew(job: Job, address: str | None, actors: int, gpus: float) -> Iterator[RayCrew]:
    """Start the workers, and look whether each has what it needs; see `open_cluster`.

    Raises:
        PluginError: The packages are missing there, or others are installed.
        ConnectionFailedError: They do not start.
        XbtMigrateError: What a worker lacks.
    """
    with open_cluster(address, actors, gpus):
        # The keeper is on this machine: whoever cuts off the command cuts it off, too.
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
            for machine, error in ray.get(looks, timeout=START_SECONDS):
                if error is not None:
                    raise type(error)(f"on the worker at {machine}: {error.message}", error.hint)
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
        yield RayCrew(job, keeper, workers, orders)


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
