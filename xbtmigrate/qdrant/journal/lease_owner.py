"""Identify the process that holds a lease, and whether it is certainly dead."""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Owner:
    """One run that holds or held a lease.

    Attributes:
        hostname: Name of its machine, for people.
        machine: Boot of the kernel and process namespace that its pid belongs to; "" if unknown.
        pid: Its process.
        started: Start time of that process in kernel ticks; "" if unknown.
        token: Random part: two leases of one process differ.
    """

    hostname: str
    machine: str
    pid: int
    started: str
    token: str

    @classmethod
    def here(cls) -> Owner:
        """Describe a new lease of this process."""
        pid = os.getpid()
        started = _start_time(pid) or ""
        return cls(socket.gethostname(), _machine(), pid, started, uuid.uuid4().hex[:12])

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """Parse the form that `str` writes; None for anything else."""
        parts = text.split("|")
        if len(parts) != 5 or not parts[2].isdecimal():
            return None
        return cls(parts[0], parts[1], int(parts[2]), parts[3], parts[4])

    def __str__(self) -> str:
        return f"{self.hostname}|{self.machine}|{self.pid}|{self.started}|{self.token}"

    @property
    def shown(self) -> str:
        """The owner, described for people."""
        return f"process {self.pid} on {self.hostname}"

    def is_this_process(self) -> bool:
        """Whether this process holds the lease."""
        mine = Owner.here()
        return (self.machine, self.pid, self.started) == (mine.machine, mine.pid, mine.started)

    def is_dead(self) -> bool:
        """Whether the process has certainly ended; false if that cannot be known.

        A pid means something only under the same boot of the same kernel and in the same process
        namespace: two containers may share both their host name and the pid.
        """
        if not self.machine or self.machine != _machine():
            return False
        try:
            # Signal 0 only tests whether the process exists.
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        # It exists and belongs to another user.
        except PermissionError:
            return False
        started = _start_time(self.pid)
        # The same pid with another start time is a later process: pids are reused.
        return started is not None and started != self.started


def _machine() -> str:
    try:
        # The name of the pid namespace, such as "pid:[4026531836]", differs between containers.
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _start_time(pid: int) -> str | None:
    """Return the start time of a process, "ended" for a zombie, None where it cannot be read."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name, in parentheses, may itself hold spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    # After the name, field 0 is the state and field 19 the start time (proc(5), fields 3 and 22).
    # Ticks since boot, so setting the clock does not change it.
    return "ended" if fields[0] in "ZX" else fields[19]
