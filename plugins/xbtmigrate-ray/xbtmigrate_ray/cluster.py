"""Connect to a Ray cluster, or start one on this machine."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from xbtmigrate.errors import ConfigError, ConnectionFailedError

# Bytes. Only what all workers are told passes through the store; vectors do not.
STORE = 256 * 2**20
CONNECT_SECONDS = 5.0


@contextmanager
def open_cluster(address: str | None, actors: int, gpus: float) -> Iterator[None]:
    """Hold a connection to a cluster that has room for the workers.

    Args:
        address: "HOST:PORT" of its head, "auto" for the one on this machine, None to start one
            that ends with the context.
        actors: Number of workers, of one core each.
        gpus: GPUs of each.

    Raises:
        ConnectionFailedError: No cluster answers there.
        ConfigError: It is too small.
    """
    signals = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    _connect(address, actors)
    # Ray ends the process at SIGTERM; the command finishes its batches.
    for each, handler in signals.items():
        signal.signal(each, handler)
    try:
        _require_room(actors, gpus)
        yield
    finally:
        ray.shutdown()


def _connect(address: str | None, actors: int) -> None:
    if address not in (None, "auto"):
        _require_answer(str(address))
    # Output of workers would mix with the JSON document on stdout.
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None:
            ray.init(
                num_cpus=max(actors, os.cpu_count() or 1),
                object_store_memory=STORE,
                include_dashboard=False,
                **quiet,
            )
        else:
            ray.init(address=address, **quiet)
    # A missing cluster, another version of Ray or Python, and a process that cannot be started.
    except (OSError, RuntimeError, ValueError) as error:
        raise ConnectionFailedError(
            f"Ray cannot be used{f' at {address}' if address else ''}: {error}",
            "start a cluster with `ray start --head`, or leave out --address",
        ) from error


def _require_answer(address: str) -> None:
    """Raise if nothing listens: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except ValueError as error:
        raise ConfigError(f"--address {address} is not HOST:PORT", "or write auto") from error
    except OSError as error:
        raise ConnectionFailedError(
            f"no Ray cluster answers at {address}: {error}",
            "name the address that `ray start --head` has printed",
        ) from error


def _require_room(actors: int, gpus: float) -> None:
    there = ray.cluster_resources()
    for name, each, option in (("CPU", 1.0, ""), ("GPU", gpus, " or --gpus-per-actor")):
        if actors * each > there.get(name, 0.0):
            raise ConfigError(
                f"{actors} actors need {actors * each:g} {name}s, and the Ray cluster has "
                f"{there.get(name, 0.0):g}",
                f"lower --actors{option}, or add machines to the cluster",
            )
