"""The passes of a run on many workers: cut into tasks, handed out in order, counted as they end.

Ray starts a killed worker again and gives it its task again. What it had written is skipped then,
like after any interruption. The cursor that the journal keeps covers the tasks up to the first one
that is not complete, so the built-in engine can go on from there, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pyarrow as pa
import ray
from ray.util import ActorPool

from xbtmigrate.backfill.goal import Sweep
from xbtmigrate.backfill.make_vectors import VectorMaker
from xbtmigrate.backfill.passes import Part, Parts
from xbtmigrate.errors import EncoderError, GateError
from xbtmigrate.types import Kind, PointId
from xbtmigrate_ray.ranges import IdRange
from xbtmigrate_ray.shared_pace import State
from xbtmigrate_ray.worker import Known, Result, Task

# Seconds between two looks at whether to stop, and at the lease.
LOOK_EVERY = 0.5
# Batches in a task of named points: few enough that all workers end at about the same time.
MAX_BATCHES = 8
TASKS_EACH = 4


@dataclass(frozen=True, slots=True)
class RayPasses:
    """Hands out the passes to workers.

    Attributes:
        maker: Knows what the run has found so far.
        workers: The actors.
        keeper: The actor with the pace.
        orders: What the workers are told, in Ray's store.
        cut: Cuts the points behind an id into ranges.
        spend: Called with the money that a task has cost.
        keep: Called with points of the baseline whose old vectors were replaced.
    """

    maker: VectorMaker
    workers: Sequence[Any]
    keeper: Any
    orders: Any
    cut: Callable[[PointId | None], Sequence[IdRange]]
    spend: Callable[[float], None]
    keep: Callable[[pa.Table], None]

    def project(self, after: PointId | None) -> Parts:
        """Project the points behind `after` that are due."""
        return self._hand_out(self._ranges(after), self._known())

    def encode(self, ids: Sequence[PointId], expected: Kind | None) -> Parts:
        """Encode points in about this order."""
        return self._hand_out(self._chunks(ids, expected), self._known())

    def sweep(self, sweep: Sweep) -> Parts:
        """Complete what is due of every point that the goal covers."""
        tasks = self._ranges(None)
        if sweep.ids is not None:
            tasks = self._chunks(sweep.ids, sweep.expected)
        return self._hand_out(tasks, replace(self._known(), sweep=replace(sweep, ids=None)))

    def _known(self) -> Known:
        maker = self.maker
        return Known(
            *(dict(maker.quarantined), set(maker.refused), maker.most_quarantined, maker.points)
        )

    def _ranges(self, after: PointId | None) -> Iterator[Task]:
        yield from (Task(number, each) for number, each in enumerate(self.cut(after)))

    def _chunks(self, ids: Sequence[PointId], expected: Kind | None) -> Iterator[Task]:
        batch = self.maker.batch_size
        fair = len(ids) // (TASKS_EACH * len(self.workers) * batch)
        size = batch * max(1, min(MAX_BATCHES, fair))
        for number, start in enumerate(range(0, len(ids), size)):
            # A list: the order is a file on this machine.
            yield Task(number, ids=list(ids[start : start + size]), expected=expected)

    def _hand_out(self, tasks: Iterable[Task], known: Known) -> Parts:
        """Yield the tasks as parts of the pass, in their order, once all before them are complete.

        Raises:
            XbtMigrateError: A task failed, its worker could not be started again, or more points
                than allowed cannot be embedded.
        """
        left, pool, shared = iter(tasks), ActorPool(list(self.workers)), ray.put(known)
        ended: dict[int, Result] = {}
        following = 0

        def submit(count: int) -> None:
            for task in islice(left, count):
                pool.submit(
                    lambda worker, each: worker.work.remote(self.orders, each, shared), task
                )

        try:
            submit(len(self.workers))
            while pool.has_next():
                try:
                    result = pool.get_next_unordered(timeout=LOOK_EVERY)
                except TimeoutError:
                    # Nothing has ended. The loop asks whether to stop, and renews its record.
                    yield Part(0)
                    continue
                self._count(result)
                self.maker.set_aside(result.quarantined)
                if result.error is not None:
                    raise result.error
                submit(1)
                ended[result.task.number] = result
                while following in ended:
                    done = ended.pop(following)
                    following += 1
                    yield Part(done.points, done.task.within.last or done.last, done.due)
        except ray.exceptions.RayError as error:
            raise _explained(error) from error
        finally:
            self._end(pool)

    def _count(self, result: Result) -> None:
        """Count what a task did."""
        maker = self.maker
        maker.note(result.counts)
        maker.times.add(result.seconds)
        maker.refused.update(result.refused)
        self.spend(result.cost)
        for rows in result.replaced:
            self.keep(rows)

    def _end(self, pool: ActorPool) -> None:
        """Let the workers end their batches, and count these; without a lease they write nothing.

        Raises:
            BaseException: What storing the record has raised.
        """
        if not pool.has_next():
            return
        try:
            self.maker.later.wait()
        except BaseException:
            self._turn(State.CLOSED)
            raise
        self._turn(State.ENDING)
        while pool.has_next():
            # What ended the pass is the failure that counts.
            with suppress(ray.exceptions.RayError, GateError):
                result = pool.get_next_unordered()
                self._count(result)
                self.maker.set_aside(result.quarantined)
        self._turn(State.OPEN)

    def _turn(self, state: State) -> None:
        # Where the cluster is gone, so are its workers.
        with suppress(ray.exceptions.RayError):
            ray.get(self.keeper.turn.remote(state))


def _explained(error: ray.exceptions.RayError) -> BaseException:
    """Return what a worker raised, or why Ray could not carry out a task."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        return cause
    return EncoderError(
        f"Ray could not carry out a task: {str(error).splitlines()[0]}",
        "run the same command again: it continues from here; `ray logs` shows what workers wrote",
    )
