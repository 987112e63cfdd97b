"""Command line: Ctrl-C and SIGTERM let a run end in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from xbtmigrate.cli import render


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], str]]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop; the second one ends the program."""
    asked = threading.Event()

    def ask(number: int, _frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        render.note(f"\n{signal.Signals(number).name}: finishing the batch …")

    former = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: "interrupted" if asked.is_set() else ""
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
