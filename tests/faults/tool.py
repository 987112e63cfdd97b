"""The command line in a process of its own, forked from one that has imported it: it can be killed.

A run takes a few milliseconds to start instead of a second of importing.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

# Imported here so that the server of forks imports them once.
import xbtmigrate.workflows.backfill.backfill
from tests.faults.removals import remove
from xbtmigrate.cli import main

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([__name__])


def _run(arguments: Sequence[str], folder: Path, removed: str) -> None:
    os.chdir(folder)
    for name, number in (("out", 1), ("err", 2)):
        opened = os.open(folder / f"{name}.{os.getpid()}", os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, number)
    sys.argv = ["xbtmigrate", *arguments]
    os.environ |= {"HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    remove(removed)
    main()


@dataclass(slots=True)
class Tool:
    """One run of the command line.

    Attributes:
        arguments: The command.
        folder: Where it runs.
        removed: Name of the protection it runs without, "" for none.
    """

    arguments: Sequence[str]
    folder: Path
    removed: str = ""
    _process: ForkServerProcess = field(init=False)

    def start(self) -> Tool:
        self._process = _FORKS.Process(
            target=_run, args=(self.arguments, self.folder, self.removed), daemon=True
        )
        self._process.start()
        return self

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def kill(self) -> None:
        """Kill -9."""
        self._process.kill()

    def end(self, seconds: float) -> tuple[int | None, str, str]:
        """Wait for its end; returns exit code (None if it had to be killed), stdout, stderr."""
        self._process.join(seconds)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
            return None, *self._said()
        return self._process.exitcode, *self._said()

    def _said(self) -> tuple[str, str]:
        files = (self.folder / f"{name}.{self._process.pid}" for name in ("out", "err"))
        out, err = (file.read_text() if file.exists() else "" for file in files)
        return out, err


__all__ = ["Tool", "xbtmigrate"]
