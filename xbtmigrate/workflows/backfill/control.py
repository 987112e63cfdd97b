"""Pause, resume and throttle a run from another shell, and wait until it has confirmed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from xbtmigrate.backfill.pace import Limits
from xbtmigrate.config import Config
from xbtmigrate.documents.next_step import NextDocument
from xbtmigrate.documents.status import ControlDocument
from xbtmigrate.errors import ConfigError, GateError
from xbtmigrate.migration.phases import MigrationRecord
from xbtmigrate.protocols import Journal
from xbtmigrate.qdrant.journal.lease_owner import Owner
from xbtmigrate.qdrant.journal.run_control import Command, Control
from xbtmigrate.workflows.next_step import BACKFILL, RESUME, next_step
from xbtmigrate.workflows.store import open_store

# Seconds. The run reads commands once a second, but a write in progress can take long.
ANSWER_SECONDS = 60.0
LOOK_EVERY = 0.25


def pause(config: Config) -> ControlDocument:
    """Pause a running backfill; return once none of its writes is in progress.

    Raises:
        GateError: No run is going, or it does not confirm.
    """
    return _steer(config, "pause", lambda command, _: (True, command.limits))


def resume(config: Config) -> ControlDocument:
    """Resume a paused run, or withdraw a pause whose run has ended.

    Raises:
        GateError: No run is going and none was paused, or the run does not answer.
    """
    return _steer(config, "resume", lambda command, _: (False, command.limits))


def throttle(
    config: Config, *, max_slowdown: float | None, max_rate: float | None, off: bool, reset: bool
) -> ControlDocument:
    """Change the limits of the run while it continues.

    Args:
        config: The settings.
        max_slowdown: New limit, infinite for none, None to leave it.
        max_rate: New limit, infinite for none, None to leave it.
        off: Take away both limits.
        reset: Go back to the limits that the run was started with.

    Raises:
        ConfigError: Not exactly one of limits, `off` and `reset` is given.
        GateError: No run is going, or it does not answer.
    """
    if sum([off, reset, max_slowdown is not None or max_rate is not None]) != 1:
        raise ConfigError(
            "throttle takes limits, or --off, or --reset",
            "for example `xbtmigrate throttle --max-rate 2000`, or --max-slowdown 1.2",
        )

    def changed(command: Command, load: Mapping[str, Any]) -> tuple[bool, Limits | None]:
        if reset:
            return command.paused, None
        if off:
            return command.paused, Limits(None, None)
        return command.paused, Limits(
            _changed(load.get("max_slowdown"), max_slowdown),
            _changed(load.get("max_rate"), max_rate),
        )

    return _steer(config, "throttle", changed)


def _changed(present: float | None, given: float | None) -> float | None:
    """Return the limit that holds from now on; None for none."""
    if given is None:
        return present
    # On the command line `off` is infinity, since None already means "leave it".
    return None if math.isinf(given) else given


def _steer(
    config: Config,
    verb: str,
    change: Callable[[Command, Mapping[str, Any]], tuple[bool, Limits | None]],
) -> ControlDocument:
    """Store a command and wait until the run has confirmed it."""
    with open_store(config) as store:
        control = Control(store.connection, config.migration)
        record, present = store.journal.load(), control.read_command()
        runs = is_running(record)
        # A pause outlasts its run, or a restart would undo it: only `resume` works without one.
        if not runs and not (verb == "resume" and present.paused):
            raise GateError(
                f"no run of migration '{config.migration}' is active: there is nothing to {verb}",
                "`xbtmigrate status` shows its state; nothing was changed",
            )
        paused, limits = change(present, control.read_load())
        command = control.send_command(paused=paused, limits=limits)
        load = _obeyed(store.journal, control, command) if runs else control.read_load()
        return {
            "migration": config.migration,
            "running": runs,
            "paused": paused,
            "max_slowdown": load.get("max_slowdown"),
            "max_rate": load.get("max_rate"),
            **_next(paused=paused, runs=runs),
        }


def is_running(record: MigrationRecord | None) -> bool:
    """Whether a process holds the lease and is not known to be dead."""
    if record is None or not record.owner:
        return False
    owner = Owner.parse(record.owner)
    # Whether it is dead can be known on the same machine only; elsewhere it counts as alive.
    return owner is None or not owner.is_dead()


def _obeyed(journal: Journal, control: Control, command: Command) -> dict[str, Any]:
    """Wait for the run's answer, and return the load it publishes."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline:
        load = control.read_load()
        # Limits hold once the token is repeated. A pause also waits for the write in progress, and
        # only the state shows when that has ended.
        if load.get("token") == command.token and (not command.paused or load["state"] == "paused"):
            return load
        # Without this, a killed run would keep the user waiting for the whole minute.
        if not is_running(journal.load()):
            raise GateError(
                "the run ended before it could answer",
                "the next run follows it; `xbtmigrate status` shows the state of the migration",
            )
        time.sleep(LOOK_EVERY)
    raise GateError(
        f"the run has not answered within {ANSWER_SECONDS:.0f} s",
        "if it is alive it will still follow; `xbtmigrate status` shows when it was last seen",
    )


def _next(*, paused: bool, runs: bool) -> NextDocument:
    if paused:
        return RESUME
    return next_step("xbtmigrate status" if runs else BACKFILL)
