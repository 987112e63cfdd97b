"""What the end-to-end tests run as a process is what was installed, and that is whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.documents import ROOT

FIND = "import xbtmigrate; print(xbtmigrate.__file__)"


def contents(folder: Path) -> dict[Path, bytes]:
    """All files of a package but compiled ones."""
    found = (each for each in folder.rglob("*") if each.is_file() and each.suffix != ".pyc")
    return {each.relative_to(folder): each.read_bytes() for each in found}


def test_the_installed_package_is_the_wheel_of_this_checkout(tmp_path: Path):
    command = [sys.executable, "-c", FIND]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    installed, source = Path(shown.stdout.strip()).parent, ROOT / "xbtmigrate"
    # `make test` installs a wheel; who develops may have an editable installation.
    if os.environ.get("XBTMIGRATE_INSTALLED") == "wheel":
        assert installed.is_relative_to(sys.prefix)
        assert installed != source
    assert contents(installed) == contents(source)
