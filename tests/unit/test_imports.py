"""What starts fast stays fast: heavy libraries are imported where they are used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ["torch", "open_clip", "transformers", "PIL", "qdrant_client", "pyarrow", "numpy"]


def imported_by(code: str, folder: Path) -> set[str]:
    """Run some code in a fresh interpreter and return the top-level modules it imported."""
    report = f"""
import atexit, json, pathlib, sys
found = pathlib.Path({str(folder / "modules.json")!r})
atexit.register(lambda: found.write_text(json.dumps(list(sys.modules))))
{code}
"""
    subprocess.run([sys.executable, "-c", report], capture_output=True, timeout=60, check=True)
    return {name.split(".")[0] for name in json.loads((folder / "modules.json").read_text())}


@pytest.mark.parametrize(
    "code",
    [
        "import xbtmigrate",
        "import xbtmigrate.cli",
        "sys.argv = ['xbtmigrate', '--help']; from xbtmigrate.cli import main; main()",
        "sys.argv = ['xbtmigrate', '--version']; from xbtmigrate.cli import main; main()",
        "sys.argv = ['xbtmigrate', 'backfill', '--help']; from xbtmigrate.cli import main; main()",
    ],
)
def test_light(code: str, tmp_path: Path):
    modules = imported_by(code, tmp_path)
    assert "xbtmigrate" in modules
    assert modules.isdisjoint(HEAVY), modules & set(HEAVY)


def test_a_projector_is_applied_without_torch(tmp_path: Path):
    code = "from xbtmigrate import Projector; Projector.load"
    modules = imported_by(code, tmp_path)
    assert "numpy" in modules
    assert modules.isdisjoint({"torch", "open_clip", "qdrant_client"})
