"""What starts fast stays fast: heavy libraries are imported where they are used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from xbtmigrate.cli.verbs import VERBS

HEAVY = {"torch", "open_clip", "transformers", "PIL", "qdrant_client", "pyarrow", "numpy", "scipy"}
MODULES = {verb.module for verb in VERBS.values()}
RUN = "sys.argv = ['xbtmigrate', *{!r}]; from xbtmigrate.cli import main; main()"


def imported_by(code: str, folder: Path) -> list[str]:
    """Run some code in a fresh interpreter and return the modules it imported beyond `pass`."""
    report = f"""
import atexit, json, pathlib, sys
before = set(sys.modules)
found = pathlib.Path({str(folder / "modules.json")!r})
atexit.register(lambda: found.write_text(json.dumps(list(set(sys.modules) - before))))
{code}
"""
    command = [sys.executable, "-c", report]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=60, check=False)
    assert b"Traceback" not in done.stderr, done.stderr
    return json.loads((folder / "modules.json").read_text())


def packages(modules: list[str]) -> set[str]:
    return {name.split(".")[0] for name in modules}


@pytest.mark.parametrize("code", ["import xbtmigrate", "import xbtmigrate.cli"])
def test_the_package_is_light(code: str, tmp_path: Path):
    assert packages(imported_by(code, tmp_path)) & HEAVY == set()


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["-h"], []])
def test_what_needs_no_verb_imports_next_to_nothing(arguments: list[str], tmp_path: Path):
    modules = imported_by(RUN.format(arguments), tmp_path)
    assert "xbtmigrate.cli.verbs" in modules
    assert len(modules) <= 12, sorted(modules)


@pytest.mark.parametrize("verb", ["backfill", "train-projector"])
def test_the_help_of_a_verb_imports_no_library_but_typer(verb: str, tmp_path: Path):
    modules = imported_by(RUN.format([verb, "--help"]), tmp_path)
    assert packages(modules) & {*HEAVY, "rich", "httpx"} == set()
    # Of the other verbs' modules, not one.
    commands = {f"xbtmigrate.cli.commands.{module}" for module in MODULES}
    assert commands & set(modules) == {f"xbtmigrate.cli.commands.{VERBS[verb].module}"}


@pytest.mark.parametrize("verb", ["status", "backfill", "cutover"])
def test_a_missing_or_wrong_configuration_is_found_before_anything_slow(verb: str, tmp_path: Path):
    slow = HEAVY - {"numpy", "pyarrow"}
    assert packages(imported_by(RUN.format([verb]), tmp_path)) & slow == set()
    (tmp_path / "xbtmigrate.toml").write_text("[qdrant]\n", "utf-8")
    assert packages(imported_by(RUN.format([verb]), tmp_path)) & slow == set()


def test_a_projector_is_applied_without_torch(tmp_path: Path):
    modules = packages(imported_by("from xbtmigrate import Projector; Projector.load", tmp_path))
    assert "numpy" in modules
    assert modules.isdisjoint({"torch", "open_clip", "qdrant_client"})
