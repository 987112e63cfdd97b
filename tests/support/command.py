"""The command line as a user runs it: a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ENVIRONMENT = os.environ | {"PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
PROGRAM = [sys.executable, "-m", "xbtmigrate"]


def xbtmigrate(
    *arguments: str | Path, cwd: Path, expect: int | None = 0
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end; a wrong exit code fails the test with all its output."""
    done = subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if expect is not None:
        assert done.returncode == expect, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done


def answer(*arguments: str | Path, cwd: Path, expect: int = 0) -> dict[str, Any]:
    """Run one command with --json and return its document."""
    done = xbtmigrate(*arguments, "--json", cwd=cwd, expect=expect)
    return json.loads(done.stdout)


def start(*arguments: str | Path, cwd: Path) -> subprocess.Popen[str]:
    """Start one command and let it run."""
    return subprocess.Popen(
        [*PROGRAM, *map(str, arguments)],
        cwd=cwd,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
