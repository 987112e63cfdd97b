"""Gives each specimen a place, leads it, and reduces one that breaks a law."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from qdrant_client import QdrantClient

from tests.support.qdrant_server import Server, running_server
from tests.zoo.application import Application, database
from tests.zoo.driver import Journey
from tests.zoo.encoder import installed
from tests.zoo.refusals import BrokenError
from tests.zoo.specimen import Specimen


@dataclass(frozen=True, slots=True)
class Led:
    """How a specimen was led.

    Attributes:
        ended: How it ended, where no law was broken.
        broken: Which law was broken and how, "" for none.
        log: The commands with their exit codes.
        refusals: What was refused on the way.
        seconds: How long it took.
    """

    ended: str
    broken: str
    log: list[str]
    refusals: list[str]
    seconds: float


@dataclass(slots=True)
class Keeper:
    """Places for specimens; a cluster for custom sharding is started when it is first needed.

    Attributes:
        server: The server of the others.
        stack: Ends what was started.
    """

    server: Server
    stack: ExitStack
    _cluster: Server | None = field(default=None)

    def lead(self, specimen: Specimen) -> Led:
        """Lead one specimen from its creation to its end."""
        started, broken, ended = time.monotonic(), "", ""
        with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
            journey = self._journey(specimen, Path(folder))
            try:
                ended = journey.lead()
            except BrokenError as error:
                broken = str(error)
            finally:
                self._clear(journey)
        return Led(ended, broken, journey.log, journey.refusals, time.monotonic() - started)

    def reduce(self, specimen: Specimen, broken: str) -> tuple[Specimen, str]:
        """Take away every oddity without which it still breaks the same law in the same way."""
        for plainer in specimen.plainer():
            if plainer == specimen:
                continue
            now = self.lead(plainer).broken
            if now and _kind(now) == _kind(broken):
                return self.reduce(plainer, now)
        return specimen, broken

    def _journey(self, specimen: Specimen, folder: Path) -> Journey:
        if specimen.place == "embedded":
            connect = database(folder)
            connect().close()
            return Journey(specimen, "path:qdrant", 0, folder, Application(specimen, connect))
        server = self._clustered() if specimen.place == "keyed" else self.server

        def remote() -> QdrantClient:
            # gRPC alone shows vectors that are no numbers.
            return QdrantClient(
                url=server.url,
                grpc_port=server.grpc_port,
                prefer_grpc=True,
                check_compatibility=False,
                timeout=60,
            )

        application = Application(specimen, remote)
        return Journey(specimen, server.url, server.grpc_port, folder, application)

    def _clustered(self) -> Server:
        if self._cluster is None:
            self._cluster = self.stack.enter_context(running_server(clustered=True))
        return self._cluster

    def _clear(self, journey: Journey) -> None:
        if journey.specimen.place == "embedded":
            return
        with journey.application.client() as client:
            for each in client.get_collections().collections:
                if each.name.startswith(journey.application.name):
                    client.delete_collection(each.name)


@contextmanager
def open_keeper(server: Server | None = None) -> Iterator[Keeper]:
    """Offer the models and the places of the zoo.

    Args:
        server: A running server; None to start one.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="zoo-models-"))
        stack.enter_context(installed(Path(folder)))
        if server is None:
            server = stack.enter_context(running_server())
        yield Keeper(server, stack)


def _kind(broken: str) -> str:
    """What two failures of one cause have in common."""
    return re.sub(r"'[^']*'|\d+|[0-9a-f-]{8,}", "", broken)[:70]
