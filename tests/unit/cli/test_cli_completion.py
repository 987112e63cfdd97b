"""Shells complete commands and options."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("xbtmigrate")


@pytest.mark.parametrize(
    ("typed", "offered"), [("roll", ["rollback"]), ("backfill --onl", ["--online"])]
)
def test_bash_completes_commands_and_options(typed: str, offered: list[str]):
    words = f"xbtmigrate {typed}"
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    shown = subprocess.run(
        [PROGRAM],
        env=os.environ | asked | {"_XBTMIGRATE_COMPLETE": "complete_bash"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.split() == offered
