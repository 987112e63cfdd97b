"""Handle the process of a command: orderly Ctrl-C and SIGTERM, exit codes, BLAS threads."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from xbtmigrate.cli import render
from xbtmigrate.errors import GateError

# What shells report for SIGINT: 128 + 2.
INTERRUPTED = 130


@contextmanager
def stop_on_interrupt(seconds: float = math.inf) -> Iterator[Callable[[], str]]:
    """Yield a function that returns why to stop, or "" to continue.

    The reasons are the first Ctrl-C or SIGTERM, and the end of a time budget. A second signal ends
    the program.

    Args:
        seconds: The budget; it counts from here, so connecting and checking are part of it.
    """
    # A flag, because an exception could arrive in the middle of a write.
    asked, deadline = threading.Event(), time.monotonic() + seconds

    def why() -> str:
        if asked.is_set():
            return "interrupted"
        return "time budget used up" if time.monotonic() >= deadline else ""

    def ask(number: int, _frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        render.note(f"{signal.Signals(number).name}: finishing the batch …")

    former = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield why
    finally:
        # Outside the run Ctrl-C ends the program at once, as usual.
        for number, handler in former.items():
            signal.signal(number, handler)


def end(*, passed: bool, interrupted: bool = False) -> None:
    """Exit with 130 where the user stopped the run, and with 3 where a check failed."""
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if not passed:
        raise typer.Exit(GateError.exit_code)


def leave_cores_to_the_loop() -> None:
    """Limit BLAS to the cores that the reading and writing threads leave; call before numpy loads.

    Idle OpenBLAS threads spin, and starve the two threads that read and write beside the projector.
    """
    # `setdefault`: a value that the user has set is kept.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(max(1, (os.cpu_count() or 1) - 2)))
