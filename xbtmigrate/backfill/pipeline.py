"""Run work beside the backfill's loop: one thread reads ahead, two write.

They hold a bounded amount of work and end with the loop. The first failure is raised in the loop,
and nothing more is started after it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")
# A bare write reached 33,425 points/s in one stream, 41,850 in two (docs/benchmarks-data-path.md).
_THREADS = 2
_MAX_TASKS = 8
"""Tasks queued or running, at most; a full queue blocks the loop."""


def read_ahead(source: Iterable[T]) -> Iterator[T]:
    """Yield the items of `source`; the next one is fetched while the caller works on one.

    One item is held at most besides the caller's. A caller that stops early leaves behind a thread
    that ends after the item it is fetching.

    Raises:
        BaseException: What `source` raises, in its place among the items.
    """
    wanted: SimpleQueue[bool] = SimpleQueue()
    fetched: SimpleQueue[tuple[T] | BaseException | None] = SimpleQueue()

    def fetch() -> None:
        try:
            for item in source:
                fetched.put((item,))
                if not wanted.get():
                    return
            fetched.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            fetched.put(error)

    # A daemon, here and below: a thread that waits for a server must not delay the exit.
    threading.Thread(target=fetch, name="read-ahead", daemon=True).start()
    try:
        while (answer := fetched.get()) is not None:
            if isinstance(answer, BaseException):
                raise answer
            wanted.put(item=True)
            yield answer[0]
    finally:
        wanted.put(item=False)


@dataclass(eq=False, slots=True)
class _Task:
    """A piece of work; `beside` if it need not wait for earlier tasks."""

    work: Callable[[], Any]
    beside: bool
    result: Future[Any] = field(default_factory=Future)
    begun: bool = False


# Not `concurrent.futures`: its threads are joined at exit, so Ctrl-C would wait for a slow encoder.
class WorkQueue:
    """A queue of work for two threads; a context that ends when the work is done.

    Work given to `begin` may run beside earlier work; work given to `do` begins when all of that is
    done. Leaving the context waits for all work and raises its failure. An error that leaves it is
    the one raised, after the same wait; an interrupt drops what has not begun, and does not wait.
    """

    def __init__(self) -> None:
        self._tasks: deque[_Task] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._failure: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._run, name=f"in-order-{number}", daemon=True)
            for number in range(_THREADS)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            # Ctrl-C: drop tasks that have not begun, and do not wait.
            if error is not None and not isinstance(error, Exception):
                self._fail(error)
            self._closing = True
            self._changed.notify_all()
        if error is None or isinstance(error, Exception):
            for thread in self._threads:
                thread.join()
        # The threads are done; this raises what the last tasks raised.
        if error is None:
            self.wait()

    def do(self, work: Callable[[], object]) -> None:
        """Queue work that begins when all earlier work is done; its result is dropped.

        Raises:
            BaseException: What earlier work raised.
        """
        self._take(_Task(work, beside=False))

    def begin(self, work: Callable[[], T]) -> Future[T]:
        """Queue work that may run beside earlier work; returns the future of its result.

        Raises:
            BaseException: What earlier work raised.
        """
        task = _Task(work, beside=True)
        self._take(task)
        return task.result

    def wait(self) -> None:
        """Wait until all queued work is done.

        Raises:
            BaseException: What the work raised.
        """
        self._wait_for(lambda: not self._tasks)

    def wait_below(self, number: int) -> None:
        """Wait until fewer than `number` tasks of `begin` are unfinished.

        Raises:
            BaseException: What the work raised.
        """
        self._wait_for(lambda: sum(each.beside for each in self._tasks) < number)

    def _take(self, task: _Task) -> None:
        # Only the loop adds tasks, so the queue cannot fill up between the two uses of the lock.
        self._wait_for(lambda: len(self._tasks) < _MAX_TASKS)
        with self._changed:
            self._tasks.append(task)
            self._changed.notify_all()

    def _wait_for(self, reached: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: reached() or self._failure is not None)
            if self._failure is not None:
                raise self._failure

    def _run(self) -> None:
        while (task := self._next()) is not None:
            try:
                task.result.set_result(task.work())
            except BaseException as error:  # noqa: BLE001 - raised again by `wait`
                with self._changed:
                    self._fail(error)
            with self._changed:
                self._tasks.remove(task)
                self._changed.notify_all()

    def _next(self) -> _Task | None:
        """Wait for a task that may begin; returns None when the queue is closed and empty."""
        with self._changed:
            while True:
                waiting = [each for each in self._tasks if not each.begun]
                for task in waiting:
                    # Running tasks stay in the queue, so a task of `do` becomes the first only
                    # when all before it are done.
                    if task.beside or task is self._tasks[0]:
                        task.begun = True
                        return task
                if self._closing and not waiting:
                    return None
                self._changed.wait()

    def _fail(self, error: BaseException) -> None:
        """Keep the first failure, and drop tasks that have not begun."""
        self._failure = self._failure or error
        for task in [each for each in self._tasks if not each.begun]:
            self._tasks.remove(task)
        self._changed.notify_all()
