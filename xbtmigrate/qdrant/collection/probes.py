"""Time probe queries on the old vector the way an application's own queries are timed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from urllib.parse import quote

import orjson

from xbtmigrate.qdrant.collection import probe_process
from xbtmigrate.qdrant.collection.facts import CollectionFacts
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.reader import Reader
from xbtmigrate.qdrant.wire.transport import Rest

QUERIES = 64
NEAREST = 10
_DRAWN_FROM = 4096
_SHARE_OF_READS = 0.1
"""Share of the reads that strict mode allows; the rest is left to the application."""


class Probes:
    """Send the same queries in turn, in a separate process, until closed.

    Args:
        rest: The server.
        collection: Real name of the collection.
        queries: Bodies of the queries.
        spacing: Least seconds between two queries.

    Attributes:
        refused: Why the server refuses the queries, "" while it does not.
        answered: How many queries the server has answered.
    """

    def __init__(self, rest: Rest, collection: str, queries: list[str], spacing: float) -> None:
        self.refused = ""
        self.answered = 0
        self._times: deque[float] = deque()
        # Its own session: Ctrl-C should reach only the run, which then ends this process.
        self._process = subprocess.Popen(  # noqa: S603
            # -P keeps the script's folder off sys.path, where modules of this package could shadow
            # others.
            [sys.executable, "-P", probe_process.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        asked = {
            "url": f"{rest.root}/collections/{quote(collection, safe='')}/points/query",
            "headers": rest.headers,
            "certificates": rest.certificates.path,
            "proxy": rest.proxy,
            "bodies": queries,
            "spacing": spacing,
        }
        threading.Thread(target=self._collect, args=(json.dumps(asked),), daemon=True).start()

    def take(self) -> list[float]:
        """Return the times of the queries since the last call, in milliseconds."""
        return [self._times.popleft() for _ in range(len(self._times))]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _collect(self, asked: str) -> None:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(OSError, ValueError):
            # The input stays open, so that the process ends with this one if this one is killed.
            process.stdin.write(asked + "\n")
            process.stdin.flush()
            for line in process.stdout:
                if line.startswith("refused "):
                    self.refused = line.removeprefix("refused ").strip()
                else:
                    spent, answered = line.split()
                    self._times.append(float(spent))
                    self.answered = int(answered)


def draw_queries(connection: Connection, facts: CollectionFacts, seed: int) -> list[str]:
    """Draw stored vectors once, and turn them into requests that search the old vector.

    Args:
        connection: The open Qdrant.
        facts: The collection.
        seed: Seed of the draw.
    """
    # From one page: a random sample of the whole collection would take a scan.
    most = facts.read_limit or _DRAWN_FROM
    reader = Reader(connection, facts.collection, min(most, _DRAWN_FROM))
    ids = next((page.ids for page in reader.scroll(payload=False, vectors=False)), [])
    drawn = random.Random(seed).sample(ids, min(QUERIES, len(ids), most))  # noqa: S311
    page = reader.retrieve(drawn, vectors=[facts.vector])
    # Without payloads, whose transfer takes time that the run does not influence.
    body: dict[str, object] = {"limit": min(NEAREST, most), "with_payload": False}
    if facts.vector:
        body["using"] = facts.vector
    return [
        orjson.dumps(
            {**body, "query": vectors[facts.vector]}, option=orjson.OPT_SERIALIZE_NUMPY
        ).decode()
        for vectors in page.vectors
        if facts.vector in vectors
    ]


def spacing_of(facts: CollectionFacts) -> float:
    """Return the least seconds between queries that leave most of strict mode's reads to others."""
    if facts.reads_per_minute is None:
        return 0.0
    return 60 / (_SHARE_OF_READS * facts.reads_per_minute)
