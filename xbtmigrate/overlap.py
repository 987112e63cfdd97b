"""Domain: two threads beside the loop, one reading ahead, one doing in order what may take time.

Both hold a bounded amount and end when the loop does. Both hand their first failure to the loop,
once, and do nothing more after it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")
_MOST = 8
"""Pieces of work given and not yet done, at most."""


def read_ahead(source: Iterable[T]) -> Iterator[T]:
    """Yield what `source` yields; while the caller works on one item, the next is fetched.

    One item is held at most besides the caller's. A caller that stops early leaves behind a thread
    that ends after the item it is fetching.

    Raises:
        BaseException: Whatever `source` raises, where it raises it.
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

    threading.Thread(target=fetch, name="read-ahead", daemon=True).start()
    try:
        while (answer := fetched.get()) is not None:
            if isinstance(answer, BaseException):
                raise answer
            wanted.put(item=True)
            yield answer[0]
    finally:
        wanted.put(item=False)


class InOrder:
    """Does work in the order given, in a thread of its own; a context that ends when it is done.

    Leaving the context waits for what was given, and raises its failure; left by an error, it
    waits and keeps quiet; left by an interrupt, it drops what has not begun.
    """

    def __init__(self) -> None:
        self._work: SimpleQueue[tuple[Callable[[], object], int] | None] = SimpleQueue()
        self._changed = threading.Condition()
        self._given = 0
        self._weight = 0
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="in-order", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and not isinstance(error, Exception):
            self._failure = self._failure or error
        self._work.put(None)
        if error is None:
            self.wait()
        if error is None or isinstance(error, Exception):
            self._thread.join()

    def do(self, work: Callable[[], object], *, weight: int = 0) -> None:
        """Take work, once there is room for it; what it returns is lost.

        Args:
            work: What to do.
            weight: What it counts for in `wait_below`.

        Raises:
            BaseException: What earlier work raised.
        """
        self._wait_for(lambda: self._given < _MOST)
        with self._changed:
            self._given += 1
            self._weight += weight
        self._work.put((work, weight))

    def wait(self) -> None:
        """Wait until everything given is done.

        Raises:
            BaseException: What the work raised.
        """
        self._wait_for(lambda: self._given == 0)

    def wait_below(self, weight: int) -> None:
        """Wait until what is not yet done weighs less than `weight`.

        Raises:
            BaseException: What the work raised.
        """
        self._wait_for(lambda: self._weight < weight)

    def _wait_for(self, reached: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: reached() or self._failure is not None)
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        while (task := self._work.get()) is not None:
            work, weight = task
            if self._failure is None:
                try:
                    work()
                except BaseException as error:  # noqa: BLE001 - raised again by `wait`
                    self._failure = error
            with self._changed:
                self._given -= 1
                self._weight -= weight
                self._changed.notify_all()
