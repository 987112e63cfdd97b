"""Command line: a run ends in order on Ctrl-C and SIGTERM, and with the code that tells how."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from xbtmigrate.cli import render
from xbtmigrate.errors import GateError

INTERRUPTED = 130


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], str]]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop; the second one ends the program."""
    asked = threading.Event()

    def ask(number: int, _frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        render.note("")
        render.note(f"{signal.Signals(number).name}: finishing the batch …")

    former = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: "interrupted" if asked.is_set() else ""
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def end(*, passed: bool, interrupted: bool = False) -> None:
    """Leave with 130 where the user stopped it, and with 3 where a gate said no."""
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if not passed:
        raise typer.Exit(GateError.exit_code)
