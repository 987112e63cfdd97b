"""A command at a real terminal, answered line by line."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
from collections.abc import Sequence
from pathlib import Path

from tests.support.command import PROGRAM, SETTINGS

QUESTION = re.compile(r"(?:: |\] ?)$")
SECONDS, QUIET = 120.0, 0.3


def at_terminal(*arguments: str, answers: Sequence[str], cwd: Path) -> tuple[int, str]:
    """Run a command at a terminal of its own; returns its exit code and what was shown.

    Args:
        arguments: The command.
        answers: What is typed at each question; Ctrl-C is "\\x03".
        cwd: Where it runs.
    """
    child, terminal = pty.fork()
    if child == 0:
        # Ignored where the tests run in the background, and a child inherits that.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.chdir(cwd)
        os.execve(PROGRAM[0], [*PROGRAM, *arguments], os.environ | SETTINGS | {"COLUMNS": "80"})
    shown, left = "", list(answers)
    while select.select([terminal], [], [], SECONDS)[0]:
        try:
            read = os.read(terminal, 65536)
        except OSError:  # how a terminal reports that its last program has ended
            break
        if not read:
            break
        shown += read.decode("utf-8", "replace").replace("\r", "")
        # What is read may end within a line: a question is followed by nothing.
        waits = not select.select([terminal], [], [], QUIET)[0]
        if left and waits and QUESTION.search(shown.rpartition("\n")[2]):
            answer = left.pop(0)
            os.write(terminal, (answer if answer == "\x03" else f"{answer}\n").encode())
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert not left, f"not asked for {left}\n{shown}"
    return code, shown
