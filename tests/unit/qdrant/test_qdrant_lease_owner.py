from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from xbtmigrate.qdrant.journal.lease_owner import Owner


def owner_of_a_child(code: str = "") -> tuple[subprocess.Popen[str], Owner]:
    program = (
        "import sys; from xbtmigrate.qdrant.journal.lease_owner import Owner\n"
        f"print(Owner.here(), flush=True); {code or 'sys.stdin.read()'}"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    owner = Owner.parse(child.stdout.readline().strip())
    assert owner is not None
    return child, owner


def test_survives_being_written_down() -> None:
    mine = Owner.here()
    assert Owner.parse(str(mine)) == mine
    assert mine.is_this_process()
    assert not mine.is_dead()
    assert Owner.parse("somebody else's words") is None


def test_every_lease_is_another() -> None:
    assert Owner.here() != Owner.here()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the end of a process is not known")
def test_knows_a_dead_process_even_before_it_is_reaped() -> None:
    child, owner = owner_of_a_child()
    assert not owner.is_dead()
    assert not owner.is_this_process()
    child.kill()
    # The status is left unread here, so what remains is a zombie.
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert owner.is_dead()
    child.communicate()
    assert owner.is_dead()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the end of a process is not known")
def test_a_reused_pid_is_another_process() -> None:
    assert replace(Owner.here(), started="1").is_dead()


def test_knows_nothing_of_other_machines() -> None:
    elsewhere = replace(Owner.here(), machine="another boot", pid=2**22 - 1)
    assert not elsewhere.is_dead()
    assert not elsewhere.is_this_process()
