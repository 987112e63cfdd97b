"""A migration from plan to finalize, each command of which meets one failing answer of Qdrant."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count, product
from pathlib import Path

import numpy as np
from qdrant_client import QdrantClient, models

from tests.faults.tool import Tool
from tests.support.corpus import write_precomputed_config, write_vectors
from tests.support.proxy import (
    DroppedError,
    Proxy,
    RefusedError,
    Request,
    ResetError,
    TruncatedError,
    proxied,
)
from tests.support.qdrant_server import running_server
from tests.support.texts import PAGE, Texts

POINTS, SECONDS = 60, 120.0
NAME, LIVE, SHADOW = "answers", "answers_live", "answers__xbtmigrate"
LAYOUTS = ("shadow", "in_place")
COMMANDS: Sequence[Sequence[str]] = (
    ("plan",),
    ("backfill", "--online", "--max-slowdown", "off"),
    ("verify",),
    ("cutover", "--yes"),
    ("rollback", "--yes"),
    ("verify",),
    ("cutover", "--yes"),
    ("finalize", "--confirm", NAME, "--notice", "0"),
)


class Failure(StrEnum):
    """How an answer fails; a lost and a truncated one is of a request that Qdrant has done."""

    LOST = "lost"
    RESET = "reset"
    TRUNCATED = "truncated"
    UNAVAILABLE = "503"


def _before(failure: Failure) -> None:
    if failure is Failure.RESET:
        raise ResetError
    if failure is Failure.UNAVAILABLE:
        raise RefusedError(None, 503)


def _after(failure: Failure) -> None:
    if failure is Failure.LOST:
        raise DroppedError
    if failure is Failure.TRUNCATED:
        raise TruncatedError


@dataclass(slots=True)
class Fault:
    """Lets requests of a command fail, counted from 1, each of them once.

    Attributes:
        proxy: The proxy whose hooks it takes.
        failure: How they fail.
        number: Which request fails first; 0 for none.
        apart: How many requests later the next one fails; 0 for one alone.
        met: The requests that failed.
    """

    proxy: Proxy
    failure: Failure
    number: int
    apart: int
    met: list[str] = field(default_factory=list)
    _seen: int = 0
    _next: int = field(init=False)
    _chosen: threading.local = field(default_factory=threading.local)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._next = self.number
        self.proxy.before, self.proxy.after = self._look, self._look_behind

    def _look(self, request: Request) -> None:
        with self._lock:
            self._seen += 1
            chosen = self._chosen.now = self._seen == self._next
            if chosen:
                self.met.append(f"{request.method} {request.path}")
                # One more for its repetition.
                self._next += self.apart and self.apart + 1
        if chosen:
            _before(self.failure)

    def _look_behind(self, _: Request) -> None:
        if self._chosen.now:
            _after(self.failure)


@dataclass(slots=True)
class Journey:
    """A server, a proxy to it, and a folder with both models' vectors."""

    url: str
    proxy: Proxy
    folder: Path
    texts: Texts

    def play(
        self, layout: str, failure: Failure, number: int, apart: int = 0
    ) -> tuple[list[str], int]:
        """Lead one migration to its end while requests of each command fail.

        Args:
            layout: in_place or shadow.
            failure: How they fail.
            number: Which request of each command fails first.
            apart: How many requests later the next one fails; 0 for one in each command.

        Returns:
            What went wrong, and how many requests failed.
        """
        with closing(QdrantClient(url=self.url, check_compatibility=False)) as client:
            self._begin(client, layout)
            failed = 0
            with tempfile.TemporaryDirectory(dir=self.folder.parent) as name:
                folder = Path(name)
                for file in self.folder.iterdir():
                    (folder / file.name).symlink_to(file)
                plan = {"strategy": "full", "layout": layout, "sample": 100}
                write_precomputed_config(
                    folder, self.proxy.url, LIVE, qdrant={"grpc_port": 1}, plan=plan
                )
                for command in COMMANDS:
                    fault = Fault(self.proxy, failure, number, apart)
                    code, out, err = Tool([*command, "--json"], folder).start().end(SECONDS)
                    failed += len(fault.met)
                    if code != 0 or "Traceback" in err:
                        said = f"{layout}, {failure} from request {number} of {command}"
                        return [f"{said} ({fault.met}): exit {code}\n{out}\n{err}"], failed
            return self._wrong(client, layout), failed

    def _begin(self, client: QdrantClient, layout: str) -> None:
        for each in (NAME, SHADOW, "_xbtmigrate"):
            client.delete_collection(each)
        self.texts.fill(client, NAME, both=layout == "in_place")
        alias = models.CreateAlias(collection_name=NAME, alias_name=LIVE)
        client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])

    def _wrong(self, client: QdrantClient, layout: str) -> list[str]:
        """Compare the collections with what they must be at the end."""
        live = SHADOW if layout == "shadow" else NAME
        names = {each.name for each in client.get_collections().collections}
        wrong = [] if names == {live, "_xbtmigrate"} else [f"collections: {sorted(names)}"]
        leading = {each.alias_name: each.collection_name for each in client.get_aliases().aliases}
        wrong += [] if leading == {LIVE: live} else [f"aliases: {leading}"]
        first, rest = client.scroll(live, limit=PAGE, with_vectors=True)
        second, _ = client.scroll(live, limit=PAGE, offset=rest, with_vectors=True)
        found = {record.id: record for record in [*first, *second]}
        wrong += [] if len(found) == POINTS else [f"{len(found)} points"]
        for point, payload, new in zip(
            self.texts.ids, self.texts.payloads, self.texts.new, strict=True
        ):
            if point not in found:
                wrong.append(f"point {point} is lost")
                continue
            vectors = found[point].vector
            name = next(iter(vectors), "")
            right = len(vectors) == 1 and np.dot(vectors[name], new) > 0.999 * np.linalg.norm(new)
            if found[point].payload != payload or not right:
                wrong.append(f"point {point} is {found[point].payload} with {list(vectors)}")
        return wrong


def play_each(journey: Journey, apart: int) -> tuple[int, list[str]]:
    """Let every request of each command fail, by each failure, in both layouts.

    Args:
        journey: Where to play.
        apart: How far apart those are that fail in one run; 0 for one run a request.

    Returns:
        How many requests failed, and what went wrong.
    """
    total, wrong = 0, []
    for layout, failure in product(LAYOUTS, Failure):
        for number in range(1, apart + 1) if apart else count(1):
            said, failed = journey.play(layout, failure, number, apart)
            total, wrong = total + failed, wrong + said
            print(f"{layout} {failure} {number}: {failed} failed {said or ''}", flush=True)
            if not (failed or said):
                break
    return total, wrong


@contextmanager
def open_journey() -> Iterator[Journey]:
    """Start a server and the proxy in front of it."""
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="answers-")))
        texts, folder = Texts.make(POINTS), root / "models"
        folder.mkdir()
        for name, rows in (("old", texts.old), ("new", texts.new)):
            write_vectors(folder / f"{name}.parquet", texts.texts, rows)
        server = stack.enter_context(running_server())
        proxy = stack.enter_context(proxied(server.url))
        yield Journey(server.url, proxy, folder, texts)
