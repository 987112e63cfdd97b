"""The command line as a user runs it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.support.documents import check_document
from xbtmigrate.cli import main

SETTINGS = {"PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
PROGRAM = [sys.executable, "-m", "xbtmigrate"]


def xbtmigrate(
    *arguments: str | Path, cwd: Path, expect: int | None = 0
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end; a wrong exit code fails the test with all its output."""
    done = subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | SETTINGS,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if expect is not None:
        assert done.returncode == expect, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    if "--json" in arguments:
        check_document(done.stdout, *arguments)
    return done


def answer(*arguments: str | Path, cwd: Path, expect: int = 0) -> dict[str, Any]:
    """Run one command with --json and return its document."""
    done = xbtmigrate(*arguments, "--json", cwd=cwd, expect=expect)
    return json.loads(done.stdout)


def inside(*arguments: str | Path, cwd: Path) -> tuple[int, str, str]:
    """Run one command within this process, which costs no start; returns code, stdout, stderr."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", ["xbtmigrate", *map(str, arguments)]),
        pytest.raises(SystemExit) as end,
    ):
        main()
    if "--json" in arguments:
        check_document(out.getvalue(), *arguments)
    return int(end.value.code or 0), out.getvalue(), err.getvalue()


def type_inside(command: str, *, cwd: Path, expect: int | None = 0) -> str | None:
    """Type a line within this process, as it was printed; returns the command it names next."""
    program, *words = shlex.split(command)
    assert program == "xbtmigrate"
    code, out, err = inside(*words, cwd=cwd)
    assert expect in (None, code), f"{command}\nexit {code}\n{out}\n{err}"
    found = re.findall(r"^Next: (.+)$", out, re.MULTILINE)
    assert len(found) <= 1, out
    return found[0] if found else None


def answer_inside(*arguments: str | Path, cwd: Path, expect: int | None = 0) -> dict[str, Any]:
    """Run one command with --json within this process and return its document."""
    code, out, err = inside(*arguments, "--json", cwd=cwd)
    assert expect in (None, code), f"exit {code}\n{out}\n{err}"
    return json.loads(out)


def start(*arguments: str | Path, cwd: Path) -> subprocess.Popen[str]:
    """Start one command and let it run."""
    return subprocess.Popen(
        [*PROGRAM, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | SETTINGS,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
