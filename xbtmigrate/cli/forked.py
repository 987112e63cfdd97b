"""Run the program for one collection in a process that is forked with its libraries loaded.

Loading them takes longer than most commands do on a small collection. So one process loads them
once, does nothing else, and forks a new one for each collection.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path

from xbtmigrate.cli.process import leave_cores_to_the_loop

LOADED = ("xbtmigrate.cli.run", "xbtmigrate.workflows.{}")
WORKFLOWS = {
    "plan": "plan.plan",
    "evaluate": "evaluate.evaluate",
    "backfill": "backfill.backfill",
    "verify": "verify.verify",
    "cutover": "cutover.cutover",
    "rollback": "cutover.rollback",
    "finalize": "cutover.finalize",
    "abort": "cutover.abort",
}
"""Verb -> its module in `workflows`."""
OUTPUT = ("out", "err")
"""Files of stdout and stderr, whose numbers are 1 and 2."""
# `multiprocessing` asks every process for its exit code whenever one starts, and a code can be
# read once: of two threads that read it, one gets 255.
_exit_codes = threading.Lock()


def load_for(verb: str) -> None:
    """Say what is loaded once; call it before the first process starts."""
    if verb == "backfill":
        leave_cores_to_the_loop()
    modules = [each.format(WORKFLOWS[verb]) for each in LOADED]
    multiprocessing.set_forkserver_preload(modules)


@dataclass(frozen=True, slots=True, eq=False)
class ForkedProgram:
    """A run of the program of its own.

    Attributes:
        folder: Where its output is kept.
        process: The process.
    """

    folder: tempfile.TemporaryDirectory[str]
    process: multiprocessing.process.BaseProcess

    @classmethod
    def start(cls, words: Sequence[str], environment: Mapping[str, str]) -> ForkedProgram:
        """Start it.

        Args:
            words: The verb and its options.
            environment: All its environment variables.
        """
        folder = tempfile.TemporaryDirectory(prefix="xbtmigrate-run-")
        # Made here: a process that is killed while it starts has printed nothing.
        for name in OUTPUT:
            (Path(folder.name) / name).touch()
        process = multiprocessing.get_context("forkserver").Process(
            target=_run, args=(list(words), dict(environment), folder.name)
        )
        with _exit_codes:
            process.start()
        return cls(folder, process)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, if it has not ended."""
        with _exit_codes:
            if self.process.exitcode is None and self.process.pid is not None:
                os.kill(self.process.pid, number)

    def wait(self) -> tuple[int, str, str]:
        """Wait for its end; returns exit code, stdout and stderr."""
        connection.wait([self.process.sentinel])
        with _exit_codes:
            self.process.join()
            code = self.process.exitcode
        assert code is not None
        with self.folder as name:
            out, err = ((Path(name) / each).read_text("utf-8", "replace") for each in OUTPUT)
        return code, out, err


def _run(words: list[str], environment: dict[str, str], folder: str) -> None:
    """Run the program in the forked process."""
    # Ctrl-C at a terminal then reaches the parent alone, which passes it on once.
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    for number, name in enumerate(OUTPUT, 1):
        os.dup2(os.open(Path(folder) / name, os.O_WRONLY), number)
    sys.argv = ["xbtmigrate", *words]
    from xbtmigrate.cli.run import run

    run()
